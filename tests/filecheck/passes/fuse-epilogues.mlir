// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s --split-input-file -p fuse-epilogues | filecheck %s

// A residual layer: the real stream and its bits are two results of one region; constants come along.
// CHECK-LABEL: func.func @main(%bits
func.func @main(%bits: tensor<1x4x4x32x!bnn.bipolar>, %stream: tensor<1x4x4x8xf32>) -> (tensor<1x4x4x8xf32>, tensor<1x4x4x8x!bnn.bipolar>) {
  %w = bnn.constant dense<1> : tensor<8x1x1x32xi8> : tensor<8x1x1x32x!bnn.bipolar>
  %s = bnn.constant dense<0.5> : tensor<8xf32> : tensor<8xf32>
  %0 = bnn.conv2d %bits, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x4x4x32x!bnn.bipolar>, tensor<8x1x1x32x!bnn.bipolar>) -> tensor<1x4x4x8xi32>
  %1 = bnn.cast %0 : (tensor<1x4x4x8xi32>) -> tensor<1x4x4x8xf32>
  %2 = bnn.mul %1, %s : (tensor<1x4x4x8xf32>, tensor<8xf32>) -> tensor<1x4x4x8xf32>
  %3 = bnn.add %2, %stream : (tensor<1x4x4x8xf32>, tensor<1x4x4x8xf32>) -> tensor<1x4x4x8xf32>
  %4 = bnn.binarize %3 {zero = 1 : i64} : (tensor<1x4x4x8xf32>) -> tensor<1x4x4x8x!bnn.bipolar>
  // CHECK-NEXT: %{{.+}}, %{{.+}} = "bnn.fused"(%bits, %stream) ({
  // CHECK-NEXT: ^{{.+}}(%[[A:.+]]: tensor<1x4x4x32x!bnn.bipolar>, %[[R:.+]]: tensor<1x4x4x8xf32>):
  // CHECK-NEXT: bnn.constant
  // CHECK-NEXT: bnn.conv2d %[[A]]
  // CHECK-NEXT: bnn.cast
  // CHECK-NEXT: bnn.constant
  // CHECK-NEXT: bnn.mul
  // CHECK-NEXT: %[[SUM:.+]] = bnn.add %{{.+}}, %[[R]]
  // CHECK-NEXT: %[[BITS:.+]] = bnn.binarize %[[SUM]]
  // CHECK-NEXT: bnn.yield %[[SUM]], %[[BITS]]
  // CHECK-NEXT: })
  // CHECK-NEXT: func.return
  func.return %3, %4 : tensor<1x4x4x8xf32>, tensor<1x4x4x8x!bnn.bipolar>
}

// -----

// A pool that the sum needs comes first, though it is written last: the sum belongs to the contraction.
// CHECK-LABEL: func.func @main(%x
func.func @main(%x: tensor<1x4x4x8xf32>) -> tensor<1x2x2x8xf32> {
  %w = bnn.constant dense<1.0> : tensor<8x2x2x8xf32> : tensor<8x2x2x8xf32>
  %0 = bnn.conv2d %x, %w {strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x4x4x8xf32>, tensor<8x2x2x8xf32>) -> tensor<1x2x2x8xf32>
  %1 = bnn.mean_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, count_outside = 0 : i64} : (tensor<1x4x4x8xf32>) -> tensor<1x2x2x8xf32>
  %2 = bnn.add %0, %1 : (tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32>) -> tensor<1x2x2x8xf32>
  // CHECK: %[[POOL:.+]] = "bnn.fused"(%x)
  // CHECK: bnn.mean_pool
  // CHECK: "bnn.fused"(%x, %[[POOL]])
  // CHECK: bnn.conv2d
  // CHECK-NEXT: bnn.add
  func.return %2 : tensor<1x2x2x8xf32>
}

// -----

// The cast of bits that two regions read is computed in both; no real-valued copy of the bits is stored.
// CHECK-LABEL: func.func @main(%input
func.func @main(%input: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %w = bnn.constant dense<1.0> : tensor<4x4xf32> : tensor<4x4xf32>
  %0 = bnn.binarize %input {zero = 1 : i64} : (tensor<1x4xf32>) -> tensor<1x4x!bnn.bipolar>
  %1 = bnn.cast %0 : (tensor<1x4x!bnn.bipolar>) -> tensor<1x4xf32>
  %2 = bnn.dense %input, %w : (tensor<1x4xf32>, tensor<4x4xf32>) -> tensor<1x4xf32>
  %3 = bnn.add %2, %1 : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %4 = bnn.dense %3, %w : (tensor<1x4xf32>, tensor<4x4xf32>) -> tensor<1x4xf32>
  %5 = bnn.mul %4, %1 : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK: %[[BITS:.+]] = "bnn.fused"(%input)
  // CHECK: }) : (tensor<1x4xf32>) -> tensor<1x4x!bnn.bipolar>
  // CHECK: "bnn.fused"(%input, %[[BITS]])
  // CHECK: bnn.cast
  // CHECK-NEXT: bnn.add
  // CHECK: "bnn.fused"(%{{.+}}, %[[BITS]])
  // CHECK: bnn.cast
  // CHECK-NEXT: bnn.mul
  func.return %5 : tensor<1x4xf32>
}

// -----

// Near misses: another shape than the root's makes a region of its own; layout and softmax stay outside.
// CHECK-LABEL: func.func @main(%image
func.func @main(%image: tensor<1x2x2x4xf32>) -> tensor<1x16xf32> {
  %0 = bnn.mean_pool %image {kernel = array<i64: 2, 2>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, count_outside = 0 : i64} : (tensor<1x2x2x4xf32>) -> tensor<1x1x1x4xf32>
  %1 = bnn.sigmoid %0 : (tensor<1x1x1x4xf32>) -> tensor<1x1x1x4xf32>
  %2 = bnn.mul %image, %1 : (tensor<1x2x2x4xf32>, tensor<1x1x1x4xf32>) -> tensor<1x2x2x4xf32>
  %3 = bnn.reshape %2 : (tensor<1x2x2x4xf32>) -> tensor<1x16xf32>
  %4 = bnn.softmax %3 : (tensor<1x16xf32>) -> tensor<1x16xf32>
  // CHECK: %[[SCALE:.+]] = "bnn.fused"(%image)
  // CHECK: bnn.mean_pool
  // CHECK-NEXT: bnn.sigmoid
  // CHECK-NEXT: bnn.yield
  // CHECK: "bnn.fused"(%image, %[[SCALE]])
  // CHECK: bnn.mul
  // CHECK-NEXT: bnn.yield
  // CHECK: bnn.reshape
  // CHECK-NEXT: bnn.softmax
  func.return %4 : tensor<1x16xf32>
}
