// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-bnn-to-linalg | filecheck %s
// RUN: bnncc-opt %s -p 'convert-bnn-to-linalg{form=im2col}' | filecheck %s --check-prefix IM2COL

// The window moves over the packed image; strides and dilations are in the map.
// CHECK-LABEL: func.func @strided
// CHECK: linalg.generic
// CHECK-SAME: affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, ((d1 * 2) + d4), (d2 + (d5 * 2)), d6)>
// CHECK-SAME: affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d4, d5, d6, d3)>
// CHECK-SAME: affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1, d2, d3)>
// CHECK-SAME: library_call = "binary_conv2d"
// CHECK-SAME: ins(%{{.+}}, %{{.+}} : tensor<1x9x8x2xi32>, tensor<3x3x2x16xi32>)
// CHECK: arith.xori
// CHECK-NEXT: math.ctpop
// CHECK-NEXT: arith.addi
// As a product, windows are gathered first; weights lie as they are trained.
// IM2COL-LABEL: func.func @strided
// IM2COL: linalg.generic
// IM2COL-SAME: affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, ((d1 * 2) + d3), (d2 + (d4 * 2)), d5)>
// IM2COL: -> tensor<1x4x4x3x3x2xi32>
// IM2COL: tensor.collapse_shape {{.+}} : tensor<1x4x4x3x3x2xi32> into tensor<16x18xi32>
// IM2COL: linalg.generic
// IM2COL-SAME: affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1)>
// IM2COL-SAME: library_call = "binary_conv2d"
// IM2COL-SAME: ins(%{{.+}}, %{{.+}} : tensor<16x18xi32>, tensor<16x18xi32>)
// IM2COL: arith.xori
// IM2COL-NEXT: math.ctpop
// IM2COL: tensor.expand_shape {{.+}} : tensor<16x16xi32> into tensor<1x4x4x16xi32>
func.func @strided(%x: tensor<1x9x8x64x!bnn.bipolar>) -> tensor<1x4x4x16xi32> {
  %w = bnn.constant dense<1> : tensor<16x3x3x64xi8> : tensor<16x3x3x64x!bnn.bipolar>
  %0 = bnn.conv2d %x, %w {strides = array<i64: 2, 1>, dilations = array<i64: 1, 2>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x9x8x64x!bnn.bipolar>, tensor<16x3x3x64x!bnn.bipolar>) -> tensor<1x4x4x16xi32>
  // The sum of K signs of which `count` differ is K - 2 count.
  // CHECK: arith.constant dense<576> : tensor<16xi32>
  // CHECK: arith.shli
  // CHECK-NEXT: arith.subi
  func.return %0 : tensor<1x4x4x16xi32>
}

// Groups are a loop of their own; 40 channels of each begin a new word.
// CHECK-LABEL: func.func @groups
// CHECK: tensor.expand_shape {{.+}} : tensor<1x4x4x80xi1> into tensor<1x4x4x2x40xi1>
// CHECK: affine_map<(d0, d1, d2, d3, d4, d5, d6, d7) -> (d0, (d1 + d5), (d2 + d6), d3, d7)>
// CHECK-SAME: library_call = "binary_conv2d"
// CHECK-SAME: tensor<1x4x4x2x2xi32>, tensor<3x3x2x2x4xi32>
// CHECK: tensor.collapse_shape {{.+}} : tensor<1x2x2x2x4xi32> into tensor<1x2x2x8xi32>
// IM2COL-LABEL: func.func @groups
// IM2COL: -> tensor<1x2x2x2x3x3x2xi32>
// IM2COL: library_call = "binary_conv2d"
func.func @groups(%x: tensor<1x4x4x80x!bnn.bipolar>) -> tensor<1x2x2x8xi32> {
  %w = bnn.constant dense<1> : tensor<8x3x3x40xi8> : tensor<8x3x3x40x!bnn.bipolar>
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 2 : i64, pad_value = 0 : i64} : (tensor<1x4x4x80x!bnn.bipolar>, tensor<8x3x3x40x!bnn.bipolar>) -> tensor<1x2x2x8xi32>
  func.return %0 : tensor<1x2x2x8xi32>
}

// Of a depthwise layer every channel is a word of one bit.
// CHECK-LABEL: func.func @depthwise
// CHECK: arith.extui
// CHECK: affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, (d1 + d4), (d2 + d5), d3)>
// CHECK-SAME: affine_map<(d0, d1, d2, d3, d4, d5) -> (d4, d5, d3)>
// CHECK-SAME: library_call = "binary_conv2d"
// CHECK-SAME: tensor<1x4x4x40xi32>, tensor<3x3x40xi32>
func.func @depthwise(%x: tensor<1x4x4x40x!bnn.bipolar>) -> tensor<1x2x2x40xi32> {
  %w = bnn.constant dense<1> : tensor<40x3x3x1xi8> : tensor<40x3x3x1x!bnn.bipolar>
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 40 : i64, pad_value = 0 : i64} : (tensor<1x4x4x40x!bnn.bipolar>, tensor<40x3x3x1x!bnn.bipolar>) -> tensor<1x2x2x40xi32>
  func.return %0 : tensor<1x2x2x40xi32>
}

// Weights that may be 0 come with a mask.
// CHECK-LABEL: func.func @masked
// CHECK: library_call = "binary_conv2d_masked"
// CHECK: arith.xori
// CHECK-NEXT: arith.andi
// CHECK-NEXT: math.ctpop
func.func @masked(%x: tensor<1x3x3x2x!bnn.bipolar>) -> tensor<1x1x1x1xi32> {
  %w = bnn.constant dense<[[[[1, 0], [0, 0], [-1, 0]], [[0, 1], [0, 1], [0, 0]], [[1, 0], [0, 0], [-1, 0]]]]> : tensor<1x3x3x2xi8> : tensor<1x3x3x2x!bnn.ternary>
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x3x3x2x!bnn.bipolar>, tensor<1x3x3x2x!bnn.ternary>) -> tensor<1x1x1x1xi32>
  func.return %0 : tensor<1x1x1x1xi32>
}
