// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-bnn-to-linalg | filecheck %s
// RUN: bnncc-opt %s -p 'convert-bnn-to-linalg{form=im2col}' | filecheck %s --check-prefix IM2COL

// Bits of a domain are packed words of i32, 32 channels each.
// CHECK-LABEL: func.func @packed(%{{.+}}: tensor<2x2xi32>, %{{.+}}: tensor<2x2xi32>) -> (tensor<2x2xi32>, tensor<2x2xi32>)
func.func @packed(%x: tensor<2x40x!bnn.ternary>) -> tensor<2x40x!bnn.ternary> {
  func.return %x : tensor<2x40x!bnn.ternary>
}

// CHECK-LABEL: func.func @binary_layer
// IM2COL-LABEL: func.func @binary_layer
func.func @binary_layer(%x: tensor<1x4x4x64x!bnn.bipolar>) -> tensor<1x4x4x32x!bnn.bipolar> {
  %w = bnn.constant dense<1> : tensor<32x3x3x64xi8> : tensor<32x3x3x64x!bnn.bipolar>
  // Zero padding of signs: the border holds -1; the counts start with what that is wrong by, in a table of
  // nine cases.
  // CHECK: tensor.insert_slice {{.+}} : tensor<1x4x4x2xi32> into tensor<1x6x6x2xi32>
  // CHECK: arith.constant dense<{{.+}}> : tensor<3x3x32xi32>
  // CHECK: tensor.extract
  // CHECK: linalg.generic
  // CHECK-SAME: affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, (d1 + d4), (d2 + d5), d6)>
  // CHECK-SAME: library_call = "binary_conv2d"
  // CHECK: arith.xori
  // CHECK-NEXT: math.ctpop
  // CHECK-NEXT: arith.addi
  // IM2COL: -> tensor<1x4x4x3x3x2xi32>
  // IM2COL: library_call = "binary_conv2d"
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x4x4x64x!bnn.bipolar>, tensor<32x3x3x64x!bnn.bipolar>) -> tensor<1x4x4x32xi32>
  // The threshold gives bits, which are packed.
  // CHECK: arith.cmpi sge
  // CHECK: tensor.expand_shape {{.+}} : tensor<1x4x4x32xi1> into tensor<1x4x4x1x32xi1>
  // CHECK: arith.shli
  %1 = bnn.threshold %0 {thresholds = dense<3> : tensor<32xi32>, signs = dense<1> : tensor<32xi8>} : (tensor<1x4x4x32xi32>) -> tensor<1x4x4x32x!bnn.bipolar>
  // CHECK: func.return %{{.+}} : tensor<1x4x4x1xi32>
  func.return %1 : tensor<1x4x4x32x!bnn.bipolar>
}

// Padding with -1 needs no table: that is what the border holds.
// CHECK-LABEL: func.func @minus_one
// CHECK-NOT: linalg.index 2
func.func @minus_one(%x: tensor<1x4x4x64x!bnn.bipolar>) -> tensor<1x4x4x1xi32> {
  %w = bnn.constant dense<1> : tensor<1x3x3x64xi8> : tensor<1x3x3x64x!bnn.bipolar>
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, groups = 1 : i64, pad_value = -1 : i64} : (tensor<1x4x4x64x!bnn.bipolar>, tensor<1x3x3x64x!bnn.bipolar>) -> tensor<1x4x4x1xi32>
  func.return %0 : tensor<1x4x4x1xi32>
}
