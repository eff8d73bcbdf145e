// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-bnn-to-linalg | filecheck %s
// RUN: bnncc-opt %s -p 'convert-bnn-to-linalg{form=im2col}' | filecheck %s

// Both forms write these alike. Outer dimensions are rows.
// CHECK-LABEL: func.func @binary
// CHECK: tensor.expand_shape {{.+}} : tensor<12xi32> into tensor<6x2xi32>
// CHECK: linalg.generic
// CHECK-SAME: affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>
// CHECK-SAME: library_call = "binary_dense"
// CHECK-SAME: ins(%{{.+}}, %{{.+}} : tensor<6x2xi32>, tensor<2x4xi32>)
// CHECK: arith.xori
// CHECK-NEXT: math.ctpop
func.func @binary(%x: tensor<2x3x40x!bnn.bipolar>) -> tensor<2x3x4xi32> {
  %w = bnn.constant dense<1> : tensor<4x40xi8> : tensor<4x40x!bnn.bipolar>
  %0 = bnn.dense %x, %w : (tensor<2x3x40x!bnn.bipolar>, tensor<4x40x!bnn.bipolar>) -> tensor<2x3x4xi32>
  func.return %0 : tensor<2x3x4xi32>
}

// CHECK-LABEL: func.func @ternary
// CHECK: library_call = "ternary_dense_masked"
func.func @ternary(%x: tensor<2x40x!bnn.ternary>) -> tensor<2x4xi32> {
  %w = bnn.constant dense<1> : tensor<4x40xi8> : tensor<4x40x!bnn.bipolar>
  %0 = bnn.dense %x, %w : (tensor<2x40x!bnn.ternary>, tensor<4x40x!bnn.bipolar>) -> tensor<2x4xi32>
  func.return %0 : tensor<2x4xi32>
}

// CHECK-LABEL: func.func @real
// CHECK: library_call = "real_dense"
// CHECK: arith.mulf
// CHECK-NEXT: arith.addf
func.func @real(%x: tensor<2x40xf32>) -> tensor<2x4xf32> {
  %w = bnn.constant dense<0.25> : tensor<4x40xf32> : tensor<4x40xf32>
  %0 = bnn.dense %x, %w : (tensor<2x40xf32>, tensor<4x40xf32>) -> tensor<2x4xf32>
  func.return %0 : tensor<2x4xf32>
}
