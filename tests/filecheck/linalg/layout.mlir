// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-bnn-to-linalg | filecheck %s

// CHECK-LABEL: func.func @transpose
// CHECK: affine_map<(d0, d1, d2, d3) -> (d0, d2, d3, d1)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
func.func @transpose(%x: tensor<1x2x3x4xf32>) -> tensor<1x4x2x3xf32> {
  %0 = bnn.transpose %x {permutation = array<i64: 0, 3, 1, 2>} : (tensor<1x2x3x4xf32>) -> tensor<1x4x2x3xf32>
  func.return %0 : tensor<1x4x2x3xf32>
}

// Where channels stay the last dimension, whole words move; else bits do, and are packed again.
// CHECK-LABEL: func.func @transpose_words
// CHECK: affine_map<(d0, d1, d2) -> (d1, d0, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>
// CHECK-NOT: library_call
// CHECK-LABEL: func.func @transpose_bits
// CHECK: arith.shrui
// CHECK: affine_map<(d0, d1, d2) -> (d1, d2, d0)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>
// CHECK: library_call = "pack_bits"
func.func @transpose_words(%x: tensor<2x3x40x!bnn.bipolar>) -> tensor<3x2x40x!bnn.bipolar> {
  %0 = bnn.transpose %x {permutation = array<i64: 1, 0, 2>} : (tensor<2x3x40x!bnn.bipolar>) -> tensor<3x2x40x!bnn.bipolar>
  func.return %0 : tensor<3x2x40x!bnn.bipolar>
}
func.func @transpose_bits(%x: tensor<2x3x40x!bnn.bipolar>) -> tensor<40x2x3x!bnn.bipolar> {
  %0 = bnn.transpose %x {permutation = array<i64: 2, 0, 1>} : (tensor<2x3x40x!bnn.bipolar>) -> tensor<40x2x3x!bnn.bipolar>
  func.return %0 : tensor<40x2x3x!bnn.bipolar>
}

// CHECK-LABEL: func.func @reshape
// CHECK: tensor.collapse_shape {{.+}} : tensor<1x2x3x4xf32> into tensor<24xf32>
// CHECK: tensor.expand_shape {{.+}} : tensor<24xf32> into tensor<1x24xf32>
func.func @reshape(%x: tensor<1x2x3x4xf32>) -> tensor<1x24xf32> {
  %0 = bnn.reshape %x : (tensor<1x2x3x4xf32>) -> tensor<1x24xf32>
  func.return %0 : tensor<1x24xf32>
}

// Whole words, if the channels fill them.
// CHECK-LABEL: func.func @reshape_words
// CHECK-NOT: library_call
// CHECK: func.return
func.func @reshape_words(%x: tensor<2x3x64x!bnn.bipolar>) -> tensor<2x192x!bnn.bipolar> {
  %0 = bnn.reshape %x : (tensor<2x3x64x!bnn.bipolar>) -> tensor<2x192x!bnn.bipolar>
  func.return %0 : tensor<2x192x!bnn.bipolar>
}

// CHECK-LABEL: func.func @pad
// CHECK: linalg.fill ins(%{{.+}} : f32) outs(%{{.+}} : tensor<1x3x4x4xf32>)
// CHECK: tensor.extract_slice {{.+}}[0, 1, 1, 0] [1, 2, 3, 4]
// CHECK: linalg.copy
// CHECK: tensor.insert_slice {{.+}}[0, 1, 1, 0] [1, 2, 3, 4]
func.func @pad(%x: tensor<1x2x3x4xf32>) -> tensor<1x3x4x4xf32> {
  %0 = bnn.pad %x {low = array<i64: 0, 1, 1, 0>, high = array<i64: 0, 0, 0, 0>, value = -1.0 : f32} : (tensor<1x2x3x4xf32>) -> tensor<1x3x4x4xf32>
  func.return %0 : tensor<1x3x4x4xf32>
}

// CHECK-LABEL: func.func @concat
// CHECK: tensor.empty() : tensor<1x2x3x9xf32>
// CHECK: tensor.insert_slice {{.+}}[0, 0, 0, 0] [1, 2, 3, 4]
// CHECK: tensor.insert_slice {{.+}}[0, 0, 0, 4] [1, 2, 3, 5]
func.func @concat(%x: tensor<1x2x3x4xf32>, %y: tensor<1x2x3x5xf32>) -> tensor<1x2x3x9xf32> {
  %0 = bnn.concat %x, %y {axis = 3 : i64} : (tensor<1x2x3x4xf32>, tensor<1x2x3x5xf32>) -> tensor<1x2x3x9xf32>
  func.return %0 : tensor<1x2x3x9xf32>
}
