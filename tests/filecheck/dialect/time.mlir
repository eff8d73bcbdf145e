// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s | bnncc-opt | filecheck %s

// What is printed is read back.

// CHECK: func.func @main({{.*}}) -> {{.*}} attributes {bnn.inputs = ["x", "mem_in"], bnn.outputs = ["spk", "mem"], bnn.states = {{\[\[}}"mem_in", "mem"]]}
func.func @main(%x: tensor<1x4xf32>, %mem: tensor<1x4xf32>) -> (tensor<1x4x!bnn.spike>, tensor<1x4xf32>) attributes {bnn.inputs = ["x", "mem_in"], bnn.outputs = ["spk", "mem"], bnn.states = [["mem_in", "mem"]]} {
  %spk, %new = "bnn.neuron"(%x, %mem) <{kind = "if", fire = "gt", reset = "zero", operandSegmentSizes = array<i32: 1, 1>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%a: tensor<1x4xf32>, %v: tensor<1x4xf32>):
    %theta = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
    %u = bnn.add %v, %a : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
    %fired = bnn.compare %u, %theta {kind = "gt"} : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xi1>
    %s = bnn.cast %fired : (tensor<1x4xi1>) -> tensor<1x4x!bnn.spike>
    %zero = bnn.constant dense<0.0> : tensor<f32> : tensor<f32>
    %w = bnn.select %fired, %zero, %u : (tensor<1x4xi1>, tensor<f32>, tensor<1x4xf32>) -> tensor<1x4xf32>
    bnn.yield %s, %w : tensor<1x4x!bnn.spike>, tensor<1x4xf32>
  }) : (tensor<1x4xf32>, tensor<1x4xf32>) -> (tensor<1x4x!bnn.spike>, tensor<1x4xf32>)
  // CHECK: %{{.+}}, %{{.+}} = "bnn.neuron"(%{{.+}}, %{{.+}}) <{{.*}}kind = "if"
  // CHECK: bnn.yield %{{.+}}, %{{.+}} : tensor<1x4x!bnn.spike>, tensor<1x4xf32>
  // CHECK-NEXT: }) : (tensor<1x4xf32>, tensor<1x4xf32>) -> (tensor<1x4x!bnn.spike>, tensor<1x4xf32>)
  func.return %spk, %new : tensor<1x4x!bnn.spike>, tensor<1x4xf32>
}

// CHECK-LABEL: func.func @scan
func.func @scan(%x: tensor<5x1x4xf32>, %start: tensor<1x4xf32>, %gain: tensor<1x4xf32>, %n: tensor<i64>) -> (tensor<1x4xf32>, tensor<5x1x4xf32>) {
  %last, %all = "bnn.scan"(%x, %start, %gain) <{trips = 5 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%slice: tensor<1x4xf32>, %state: tensor<1x4xf32>, %g: tensor<1x4xf32>):
    %m = bnn.mul %slice, %g : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
    %s = bnn.add %state, %m : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
    bnn.yield %s, %m : tensor<1x4xf32>, tensor<1x4xf32>
  }) : (tensor<5x1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>) -> (tensor<1x4xf32>, tensor<5x1x4xf32>)
  // CHECK: %{{.+}}, %{{.+}} = "bnn.scan"(%{{.+}}, %{{.+}}, %{{.+}}) <{{.*}}trips = 5 : i64
  %final = "bnn.scan"(%x, %start, %n) <{trips = 5 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 0>}> ({
  ^bb0(%slice: tensor<1x4xf32>, %state: tensor<1x4xf32>):
    %s = bnn.add %state, %slice : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
    bnn.yield %s : tensor<1x4xf32>
  }) : (tensor<5x1x4xf32>, tensor<1x4xf32>, tensor<i64>) -> tensor<1x4xf32>
  // CHECK: %{{.+}} = "bnn.scan"(%{{.+}}, %{{.+}}, %{{.+}}) <{{.*}}trips = 5 : i64
  func.return %last, %all : tensor<1x4xf32>, tensor<5x1x4xf32>
}
