// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p tabulate-counts --split-input-file | filecheck %s

// Two taps of weight -1 and +1, or both +1: a sum from -1 to 1, from 0 to 2; a scale and a bias of each channel.

// CHECK: func.func @main
// CHECK: %[[n:.+]] = bnn.dense
// CHECK-NOT: bnn.mul
// CHECK: %[[x:.+]] = bnn.lookup %[[n]] {source = ["current", array<i64: 0, 1>], table = dense<{{\[}}[0.000000e+00, 5.000000e-01, 1.000000e+00], [2.500000e-01, 5.000000e-01, 7.500000e-01]]> : tensor<2x3xf32>, first = dense<[-1, 0]> : tensor<2xi32>}
// CHECK: "bnn.neuron"(%[[x]], %v)
// CHECK-NOT: bnn.mul
// CHECK: %[[nothing:.+]] = bnn.constant dense<0.000000e+00>
// CHECK: bnn.select %{{.+}}, %{{.+}}, %[[nothing]]
func.func @main(%s: tensor<1x2x!bnn.spike>, %v: tensor<1x2xf32>) -> (tensor<1x2xf32>) attributes {bnn.inputs = ["s", "v"], bnn.outputs = ["w"]} {
  %weight = bnn.constant dense<[[-1, 1], [1, 1]]> : tensor<2x2xi8> : tensor<2x2x!bnn.bipolar>
  %n = bnn.dense %s, %weight : (tensor<1x2x!bnn.spike>, tensor<2x2x!bnn.bipolar>) -> tensor<1x2xi32>
  %f = bnn.cast %n : (tensor<1x2xi32>) -> tensor<1x2xf32>
  %scale = bnn.constant dense<[0.5, 0.25]> : tensor<2xf32> : tensor<2xf32>
  %bias = bnn.constant dense<[0.5, 0.25]> : tensor<2xf32> : tensor<2xf32>
  %p = bnn.mul %f, %scale : (tensor<1x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  %x = bnn.add %p, %bias {source = ["current", array<i64: 0, 1>]} : (tensor<1x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  %w = "bnn.neuron"(%x, %v) <{kind = "if", fire = "ge", reset = "subtract", operandSegmentSizes = array<i32: 1, 1>, resultSegmentSizes = array<i32: 0, 1>}> ({
  ^bb0(%c: tensor<1x2xf32>, %old: tensor<1x2xf32>):
    %u = bnn.add %old, %c : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    %theta = bnn.constant dense<0.75> : tensor<f32> : tensor<f32>
    %fires = bnn.compare %u, %theta {kind = "ge"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
    %bit = bnn.cast %fires : (tensor<1x2xi1>) -> tensor<1x2xf32>
    %less = bnn.mul %bit, %theta : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
    %new = bnn.sub %u, %less : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    bnn.yield %new : tensor<1x2xf32>
  }) : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  func.return %w : tensor<1x2xf32>
}

// -----

// One scale for all channels: one row, from the smallest of all numbers to the largest.

// CHECK: func.func @main
// CHECK: bnn.lookup %{{.+}} {table = dense<{{\[}}[-5.000000e-01, 0.000000e+00, 5.000000e-01, 1.000000e+00]]> : tensor<1x4xf32>, first = dense<-1> : tensor<1xi32>}
func.func @main(%s: tensor<1x2x!bnn.spike>, %v: tensor<1x2xf32>) -> (tensor<1x2xf32>) attributes {bnn.inputs = ["s", "v"], bnn.outputs = ["w"]} {
  %weight = bnn.constant dense<[[-1, 1], [1, 1]]> : tensor<2x2xi8> : tensor<2x2x!bnn.bipolar>
  %n = bnn.dense %s, %weight : (tensor<1x2x!bnn.spike>, tensor<2x2x!bnn.bipolar>) -> tensor<1x2xi32>
  %f = bnn.cast %n : (tensor<1x2xi32>) -> tensor<1x2xf32>
  %scale = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
  %x = bnn.mul %f, %scale : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %w = "bnn.neuron"(%x, %v) <{kind = "integrator", fire = "none", reset = "none", operandSegmentSizes = array<i32: 1, 1>, resultSegmentSizes = array<i32: 0, 1>}> ({
  ^bb0(%c: tensor<1x2xf32>, %old: tensor<1x2xf32>):
    %new = bnn.add %old, %c : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    bnn.yield %new : tensor<1x2xf32>
  }) : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  func.return %w : tensor<1x2xf32>
}

// -----

// No neuron reads it, no product makes it, it is no sum of spikes: as it was.

// CHECK: func.func @main
// CHECK-NOT: bnn.lookup
func.func @main(%s: tensor<1x2x!bnn.spike>, %b: tensor<1x2x!bnn.bipolar>, %v: tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>) attributes {bnn.inputs = ["s", "b", "v"], bnn.outputs = ["x", "y", "z"]} {
  %weight = bnn.constant dense<[[-1, 1], [1, 1]]> : tensor<2x2xi8> : tensor<2x2x!bnn.bipolar>
  %n = bnn.dense %s, %weight : (tensor<1x2x!bnn.spike>, tensor<2x2x!bnn.bipolar>) -> tensor<1x2xi32>
  %f = bnn.cast %n : (tensor<1x2xi32>) -> tensor<1x2xf32>
  %scale = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
  %x = bnn.mul %f, %scale : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %m = bnn.dense %b, %weight : (tensor<1x2x!bnn.bipolar>, tensor<2x2x!bnn.bipolar>) -> tensor<1x2xi32>
  %g = bnn.cast %m : (tensor<1x2xi32>) -> tensor<1x2xf32>
  %h = bnn.mul %g, %scale : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %y, %z = "bnn.neuron"(%f, %h, %v) <{kind = "integrator", fire = "none", reset = "none", operandSegmentSizes = array<i32: 2, 1>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%c: tensor<1x2xf32>, %d: tensor<1x2xf32>, %old: tensor<1x2xf32>):
    %sum = bnn.add %c, %d : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    %new = bnn.add %old, %sum : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    bnn.yield %sum, %new : tensor<1x2xf32>, tensor<1x2xf32>
  }) : (tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>)
  func.return %x, %y, %z : tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>
}
