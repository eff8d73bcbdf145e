// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p inline-neurons | filecheck %s

// Spikes and new states are results of the body's operations, on the operands of the neuron.
// CHECK-LABEL: func.func @main
// CHECK-SAME: %[[X:.+]]: tensor<1x4xf32>, %[[V:.+]]: tensor<1x4xf32>
func.func @main(%x: tensor<1x4xf32>, %mem: tensor<1x4xf32>) -> (tensor<1x4x!bnn.spike>, tensor<1x4xf32>) {
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
  // CHECK-NOT: bnn.neuron
  // CHECK: %[[U:.+]] = bnn.add %[[V]], %[[X]]
  // CHECK: %[[F:.+]] = bnn.compare %[[U]], %{{.+}} {neuron = "if, zero, >", kind = "gt"}
  // CHECK: %[[S:.+]] = bnn.cast %[[F]] {neuron = "if, zero, >"} : (tensor<1x4xi1>) -> tensor<1x4x!bnn.spike>
  // CHECK: %[[W:.+]] = bnn.select %[[F]], %{{.+}}, %[[U]]
  // CHECK: func.return %[[S]], %[[W]]
  func.return %spk, %new : tensor<1x4x!bnn.spike>, tensor<1x4xf32>
}

// Near miss: a body that yields an argument as its new state.
// CHECK-LABEL: func.func @passes
func.func @passes(%x: tensor<4xf32>, %old: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %y, %new = "bnn.neuron"(%x, %old) <{kind = "integrator", fire = "none", reset = "none", operandSegmentSizes = array<i32: 1, 1>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%a: tensor<4xf32>, %v: tensor<4xf32>):
    bnn.yield %v, %a : tensor<4xf32>, tensor<4xf32>
  }) : (tensor<4xf32>, tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>)
  // CHECK-NEXT: func.return %old, %x
  func.return %y, %new : tensor<4xf32>, tensor<4xf32>
}
