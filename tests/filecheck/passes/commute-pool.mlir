// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p commute-pool | filecheck %s

// CHECK-LABEL: func.func @threshold
func.func @threshold(%x: tensor<1x4x4x2xi32>) -> tensor<1x2x2x2x!bnn.bipolar> {
  %p = bnn.max_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x4x4x2xi32>) -> tensor<1x2x2x2xi32>
  %t = bnn.threshold %p {thresholds = dense<[3, 5]> : tensor<2xi32>, signs = dense<1> : tensor<2xi8>} : (tensor<1x2x2x2xi32>) -> tensor<1x2x2x2x!bnn.bipolar>
  // CHECK-NEXT: %[[T:.+]] = bnn.threshold %x {thresholds = dense<[3, 5]> : tensor<2xi32>, signs = dense<1> : tensor<2xi8>}
  // CHECK-NEXT: %[[P:.+]] = bnn.max_pool %[[T]]
  // CHECK-NEXT: func.return %[[P]]
  func.return %t : tensor<1x2x2x2x!bnn.bipolar>
}

// In a channel that answers in reverse the maximum is turned over afterwards.
// CHECK-LABEL: func.func @reversed_threshold
func.func @reversed_threshold(%x: tensor<1x4x4x2xi32>) -> tensor<1x2x2x2x!bnn.bipolar> {
  %p = bnn.max_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x4x4x2xi32>) -> tensor<1x2x2x2xi32>
  %t = bnn.threshold %p {thresholds = dense<[3, 5]> : tensor<2xi32>, signs = dense<[1, -1]> : tensor<2xi8>} : (tensor<1x2x2x2xi32>) -> tensor<1x2x2x2x!bnn.bipolar>
  // CHECK-NEXT: %[[T:.+]] = bnn.threshold %x {thresholds = dense<[3, 5]> : tensor<2xi32>, signs = dense<1> : tensor<2xi8>}
  // CHECK-NEXT: %[[P:.+]] = bnn.max_pool %[[T]]
  // CHECK-NEXT: bnn.flip %[[P]] {signs = dense<[1, -1]> : tensor<2xi8>}
  func.return %t : tensor<1x2x2x2x!bnn.bipolar>
}

// CHECK-LABEL: func.func @binarize
func.func @binarize(%x: tensor<1x4x4x2xf32>) -> tensor<1x2x2x2x!bnn.bipolar> {
  %p = bnn.max_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x4x4x2xf32>) -> tensor<1x2x2x2xf32>
  %t = bnn.binarize %p {zero = -1 : i64} : (tensor<1x2x2x2xf32>) -> tensor<1x2x2x2x!bnn.bipolar>
  // CHECK-NEXT: %[[B:.+]] = bnn.binarize %x {zero = -1 : i64}
  // CHECK-NEXT: bnn.max_pool %[[B]]
  func.return %t : tensor<1x2x2x2x!bnn.bipolar>
}

// Near miss: the real-valued maximum is read by somebody else too.
// CHECK-LABEL: func.func @two_uses
func.func @two_uses(%x: tensor<1x4x4x2xf32>) -> (tensor<1x2x2x2x!bnn.bipolar>, tensor<1x2x2x2xf32>) {
  %p = bnn.max_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x4x4x2xf32>) -> tensor<1x2x2x2xf32>
  %t = bnn.binarize %p {zero = 1 : i64} : (tensor<1x2x2x2xf32>) -> tensor<1x2x2x2x!bnn.bipolar>
  // CHECK-NEXT: bnn.max_pool %x
  // CHECK-NEXT: bnn.binarize
  func.return %t, %p : tensor<1x2x2x2x!bnn.bipolar>, tensor<1x2x2x2xf32>
}

// Near miss: there is no maximum of ternary values.
// CHECK-LABEL: func.func @ternary
func.func @ternary(%x: tensor<1x4x4x2xf32>) -> tensor<1x2x2x2x!bnn.ternary> {
  %p = bnn.max_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x4x4x2xf32>) -> tensor<1x2x2x2xf32>
  %t = bnn.binarize %p {zero = 0 : i64} : (tensor<1x2x2x2xf32>) -> tensor<1x2x2x2x!bnn.ternary>
  // CHECK-NEXT: bnn.max_pool %x
  func.return %t : tensor<1x2x2x2x!bnn.ternary>
}

// Near miss: a mean does not commute with a threshold.
// CHECK-LABEL: func.func @mean
func.func @mean(%x: tensor<1x4x4x2xf32>) -> tensor<1x2x2x2x!bnn.bipolar> {
  %p = bnn.mean_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, count_outside = 0 : i64} : (tensor<1x4x4x2xf32>) -> tensor<1x2x2x2xf32>
  %t = bnn.binarize %p {zero = 1 : i64} : (tensor<1x2x2x2xf32>) -> tensor<1x2x2x2x!bnn.bipolar>
  // CHECK-NEXT: bnn.mean_pool %x
  func.return %t : tensor<1x2x2x2x!bnn.bipolar>
}
