// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s --split-input-file --verify-diagnostics | filecheck %s

// What neurons and loops expected, and what they found.

func.func @unknown_kind(%x: tensor<4xf32>, %v: tensor<4xf32>) {
  %s, %w = "bnn.neuron"(%x, %v) <{kind = "izhikevich", fire = "gt", reset = "zero", operandSegmentSizes = array<i32: 1, 1>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%a: tensor<4xf32>, %b: tensor<4xf32>):
    bnn.yield %a, %b : tensor<4xf32>, tensor<4xf32>
  }) : (tensor<4xf32>, tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>)
  func.return
}
// CHECK: expected a kind of if, lif, {{.*}}, got izhikevich

// -----

func.func @no_state(%x: tensor<4xf32>) {
  %s = "bnn.neuron"(%x) <{kind = "if", fire = "gt", reset = "zero", operandSegmentSizes = array<i32: 1, 0>, resultSegmentSizes = array<i32: 1, 0>}> ({
  ^bb0(%a: tensor<4xf32>):
    bnn.yield %a : tensor<4xf32>
  }) : (tensor<4xf32>) -> tensor<4xf32>
  func.return
}
// CHECK: expected at least one state, got none

// -----

func.func @new_state_of_another_type(%x: tensor<4xf32>, %v: tensor<4xf32>) {
  %s, %w = "bnn.neuron"(%x, %v) <{kind = "if", fire = "gt", reset = "zero", operandSegmentSizes = array<i32: 1, 1>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%a: tensor<4xf32>, %b: tensor<4xf32>):
    %c = bnn.cast %b : (tensor<4xf32>) -> tensor<4xi32>
    bnn.yield %a, %c : tensor<4xf32>, tensor<4xi32>
  }) : (tensor<4xf32>, tensor<4xf32>) -> (tensor<4xf32>, tensor<4xi32>)
  func.return
}
// CHECK: expected a new state of tensor<4xf32>, got tensor<4xi32>

// -----

func.func @not_elementwise(%x: tensor<1x4xf32>, %v: tensor<1x4xf32>) {
  %s, %w = "bnn.neuron"(%x, %v) <{kind = "if", fire = "gt", reset = "zero", operandSegmentSizes = array<i32: 1, 1>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%a: tensor<1x4xf32>, %b: tensor<1x4xf32>):
    %c = bnn.softmax %b : (tensor<1x4xf32>) -> tensor<1x4xf32>
    bnn.yield %a, %c : tensor<1x4xf32>, tensor<1x4xf32>
  }) : (tensor<1x4xf32>, tensor<1x4xf32>) -> (tensor<1x4xf32>, tensor<1x4xf32>)
  func.return
}
// CHECK: expected element-wise operations in the body, got bnn.softmax

// -----

func.func @sequences_of_other_lengths(%x: tensor<5x4xf32>, %v: tensor<4xf32>) {
  %w = "bnn.scan"(%x, %v) <{trips = 6 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 0>}> ({
  ^bb0(%a: tensor<4xf32>, %b: tensor<4xf32>):
    bnn.yield %b : tensor<4xf32>
  }) : (tensor<5x4xf32>, tensor<4xf32>) -> tensor<4xf32>
  func.return
}
// CHECK: expected sequences of 6 steps, got (5, 4)

// -----

func.func @slices_of_another_type(%x: tensor<5x4xf32>, %v: tensor<4xf32>) {
  %w = "bnn.scan"(%x, %v) <{trips = 5 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 0>}> ({
  ^bb0(%a: tensor<5x4xf32>, %b: tensor<4xf32>):
    bnn.yield %b : tensor<4xf32>
  }) : (tensor<5x4xf32>, tensor<4xf32>) -> tensor<4xf32>
  func.return
}
// CHECK: expected block arguments tensor<4xf32>, tensor<4xf32>, got tensor<5x4xf32>, tensor<4xf32>

// -----

func.func @collected_without_a_length(%n: tensor<i64>, %v: tensor<4xf32>) {
  %w, %all = "bnn.scan"(%v, %n) <{trips = 0 : i64, operandSegmentSizes = array<i32: 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%b: tensor<4xf32>):
    bnn.yield %b, %b : tensor<4xf32>, tensor<4xf32>
  }) : (tensor<4xf32>, tensor<i64>) -> (tensor<4xf32>, tensor<5x4xf32>)
  func.return
}
// CHECK: expected a bound of the steps for what is cut and collected, got 0

// -----

func.func @never(%v: tensor<4xf32>) {
  %w = "bnn.scan"(%v) <{trips = 0 : i64, operandSegmentSizes = array<i32: 0, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 0>}> ({
  ^bb0(%b: tensor<4xf32>):
    bnn.yield %b : tensor<4xf32>
  }) : (tensor<4xf32>) -> tensor<4xf32>
  func.return
}
// CHECK: expected at least one step, got 0
