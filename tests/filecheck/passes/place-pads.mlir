// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p place-pads | filecheck %s

// CHECK-LABEL: func.func @bits
func.func @bits(%b: tensor<1x4x4x2x!bnn.bipolar>, %w: tensor<1x3x3x2x!bnn.bipolar>) -> tensor<1x4x4x1xi32> {
  %0 = bnn.pad %b {low = array<i64: 0, 1, 1, 0>, high = array<i64: 0, 1, 1, 0>, value = 1.0 : f32} : (tensor<1x4x4x2x!bnn.bipolar>) -> tensor<1x6x6x2x!bnn.bipolar>
  %1 = bnn.conv2d %0, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x6x6x2x!bnn.bipolar>, tensor<1x3x3x2x!bnn.bipolar>) -> tensor<1x4x4x1xi32>
  // CHECK-NEXT: bnn.conv2d %b, %w {{.+}} pads = array<i64: 1, 1, 1, 1>, groups = 1 : i64, pad_value = 1 : i64}
  func.return %1 : tensor<1x4x4x1xi32>
}

// CHECK-LABEL: func.func @zeros
func.func @zeros(%x: tensor<1x4x4x2xf32>) -> tensor<1x6x6x2x!bnn.ternary> {
  %b = bnn.binarize %x {zero = 0 : i64} : (tensor<1x4x4x2xf32>) -> tensor<1x4x4x2x!bnn.ternary>
  %0 = bnn.pad %b {low = array<i64: 0, 1, 1, 0>, high = array<i64: 0, 1, 1, 0>, value = -1.0 : f32} : (tensor<1x4x4x2x!bnn.ternary>) -> tensor<1x6x6x2x!bnn.ternary>
  // CHECK-NEXT: %[[P:.+]] = bnn.pad %x {{.+}} value = -1.000000e+00 : f32} : (tensor<1x4x4x2xf32>)
  // CHECK-NEXT: bnn.binarize %[[P]] {zero = 0 : i64}
  func.return %0 : tensor<1x6x6x2x!bnn.ternary>
}

// Near misses: a pad by +1 in front of a convolution that pads by 0 itself; a pad of the channels.
// CHECK-LABEL: func.func @near_misses
func.func @near_misses(%b: tensor<1x4x4x2x!bnn.bipolar>, %w: tensor<1x3x3x2x!bnn.bipolar>, %v: tensor<1x1x1x3x!bnn.bipolar>) -> (tensor<1x6x6x1xi32>, tensor<1x4x4x1xi32>) {
  %0 = bnn.pad %b {low = array<i64: 0, 1, 1, 0>, high = array<i64: 0, 1, 1, 0>, value = 1.0 : f32} : (tensor<1x4x4x2x!bnn.bipolar>) -> tensor<1x6x6x2x!bnn.bipolar>
  %1 = bnn.conv2d %0, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x6x6x2x!bnn.bipolar>, tensor<1x3x3x2x!bnn.bipolar>) -> tensor<1x6x6x1xi32>
  // CHECK-NEXT: bnn.pad
  // CHECK-NEXT: bnn.conv2d
  %2 = bnn.pad %b {low = array<i64: 0, 0, 0, 1>, high = array<i64: 0, 0, 0, 0>, value = 1.0 : f32} : (tensor<1x4x4x2x!bnn.bipolar>) -> tensor<1x4x4x3x!bnn.bipolar>
  %3 = bnn.conv2d %2, %v {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x4x4x3x!bnn.bipolar>, tensor<1x1x1x3x!bnn.bipolar>) -> tensor<1x4x4x1xi32>
  // CHECK-NEXT: bnn.pad
  // CHECK-NEXT: bnn.conv2d
  func.return %1, %3 : tensor<1x6x6x1xi32>, tensor<1x4x4x1xi32>
}
