// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p recognize-neurons --split-input-file | filecheck %s

// A leak, a comparison and a subtraction around a state are a neuron.

// CHECK: func.func @main
// CHECK: %{{.+}}, %{{.+}} = "bnn.neuron"(%x, %m) <{kind = "lif", fire = "gt", reset = "subtract"
// CHECK: bnn.mul
// CHECK: bnn.add
// CHECK: bnn.compare
// CHECK: bnn.yield
func.func @main(%x: tensor<1x2xf32>, %m: tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>) attributes {bnn.inputs = ["x", "m"], bnn.outputs = ["y", "n"], bnn.states = [["m", "n"]]} {
  %k = bnn.constant dense<5.0e-01> : tensor<f32> : tensor<f32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %l = bnn.mul %m, %k : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %u = bnn.add %l, %x : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %b = bnn.compare %u, %one {kind = "gt"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  %s = bnn.cast %b : (tensor<1x2xi1>) -> tensor<1x2xf32>
  %n = bnn.sub %u, %s : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  func.return %s, %n : tensor<1x2xf32>, tensor<1x2xf32>
}

// -----

// The input depends on the state through a matrix: no neuron.

// CHECK: func.func @main
// CHECK-NOT: bnn.neuron
func.func @main(%x: tensor<1x2xf32>, %m: tensor<1x2xf32>) -> (tensor<1x2xf32>) attributes {bnn.inputs = ["x", "m"], bnn.outputs = ["n"], bnn.states = [["m", "n"]]} {
  %w = bnn.constant dense<[[1.0, 0.5], [0.5, 1.0]]> : tensor<2x2xf32> : tensor<2x2xf32>
  %d = bnn.dense %m, %w : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  %n = bnn.add %d, %x : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  func.return %n : tensor<1x2xf32>
}

// -----

// Nothing is carried: no neuron.

// CHECK: func.func @main
// CHECK-NOT: bnn.neuron
func.func @main(%x: tensor<1x2xf32>, %m: tensor<1x2xf32>) -> (tensor<1x2xf32>) {
  %n = bnn.add %m, %x : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  func.return %n : tensor<1x2xf32>
}
