// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p "assume-sign-zero{zero=-1}" | filecheck %s

// The type of what only moves the value changes along.
// CHECK-LABEL: func.func @zero_is_minus_one
func.func @zero_is_minus_one(%x: tensor<1x4xf32>, %w: tensor<2x4x!bnn.bipolar>) -> tensor<2xi32> {
  %b = bnn.binarize %x {zero = 0 : i64} : (tensor<1x4xf32>) -> tensor<1x4x!bnn.ternary>
  %r = bnn.reshape %b : (tensor<1x4x!bnn.ternary>) -> tensor<4x!bnn.ternary>
  %y = bnn.dense %r, %w : (tensor<4x!bnn.ternary>, tensor<2x4x!bnn.bipolar>) -> tensor<2xi32>
  // CHECK: bnn.binarize %x {zero = -1 : i64} : (tensor<1x4xf32>) -> tensor<1x4x!bnn.bipolar>
  // CHECK-NEXT: bnn.reshape %{{.+}} : (tensor<1x4x!bnn.bipolar>) -> tensor<4x!bnn.bipolar>
  func.return %y : tensor<2xi32>
}

// Near miss: a model that says what its zero is keeps it.
// CHECK-LABEL: func.func @zero_is_known
func.func @zero_is_known(%x: tensor<1x4xf32>) -> tensor<1x4x!bnn.bipolar> {
  %b = bnn.binarize %x {zero = 1 : i64} : (tensor<1x4xf32>) -> tensor<1x4x!bnn.bipolar>
  // CHECK: bnn.binarize %x {zero = 1 : i64}
  func.return %b : tensor<1x4x!bnn.bipolar>
}
