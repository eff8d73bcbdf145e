// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p infer-domains | filecheck %s

// One magnitude per output channel, up to jitter, is a scale and bits; the activation's own scale joins it.
// CHECK-LABEL: func.func @binary_dense
func.func @binary_dense(%b: tensor<1x3x!bnn.bipolar>) -> tensor<1x2xf32> {
  %s = bnn.constant dense<2.0> : tensor<f32> : tensor<f32>
  %w = bnn.constant dense<[[0.5, -0.5, 0.50000006], [-1.5, -1.5, 1.5]]> : tensor<2x3xf32> : tensor<2x3xf32>
  %0 = bnn.cast %b : (tensor<1x3x!bnn.bipolar>) -> tensor<1x3xf32>
  %1 = bnn.mul %0, %s : (tensor<1x3xf32>, tensor<f32>) -> tensor<1x3xf32>
  %2 = bnn.dense %1, %w : (tensor<1x3xf32>, tensor<2x3xf32>) -> tensor<1x2xf32>
  // CHECK-NEXT: %[[W:.+]] = bnn.constant dense<{{\[\[}}1, -1, 1], [-1, -1, 1]]> : tensor<2x3xi8> : tensor<2x3x!bnn.bipolar>
  // CHECK-NEXT: %[[SUM:.+]] = bnn.dense %b, %[[W]] : (tensor<1x3x!bnn.bipolar>, tensor<2x3x!bnn.bipolar>) -> tensor<1x2xi32>
  // CHECK-NEXT: %[[REAL:.+]] = bnn.cast %[[SUM]]
  // CHECK-NEXT: %[[S:.+]] = bnn.constant dense<[1.000000e+00, 3.000000e+00]> : tensor<2xf32>
  // CHECK-NEXT: bnn.mul %[[REAL]], %[[S]]
  func.return %2 : tensor<1x2xf32>
}

// Exact zeros among the weights are ternary; a channel of nothing else is a scale of 0.
// CHECK-LABEL: func.func @zero_weights
func.func @zero_weights(%b: tensor<1x2x!bnn.ternary>) -> (tensor<1x2xf32>, tensor<1x2xf32>) {
  %v = bnn.constant dense<[[0.0, -1.0], [1.0, 1.0]]> : tensor<2x2xf32> : tensor<2x2xf32>
  %w = bnn.constant dense<[[0.0, 0.0], [1.0, -1.0]]> : tensor<2x2xf32> : tensor<2x2xf32>
  %0 = bnn.cast %b : (tensor<1x2x!bnn.ternary>) -> tensor<1x2xf32>
  %1 = bnn.dense %0, %v : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  // CHECK: bnn.constant dense<{{\[\[}}0, -1], [1, 1]]> : tensor<2x2xi8> : tensor<2x2x!bnn.ternary>
  // CHECK-NEXT: bnn.dense
  // CHECK-NEXT: bnn.cast
  %2 = bnn.dense %0, %w : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  // CHECK-NEXT: bnn.constant dense<{{\[\[}}1, 1], [1, -1]]> : tensor<2x2xi8> : tensor<2x2x!bnn.bipolar>
  // CHECK-NEXT: bnn.dense
  // CHECK-NEXT: bnn.cast
  // CHECK-NEXT: bnn.constant dense<[0.000000e+00, 1.000000e+00]> : tensor<2xf32>
  // CHECK-NEXT: bnn.mul
  func.return %1, %2 : tensor<1x2xf32>, tensor<1x2xf32>
}

// Casts and positive scales pass a max_pool and a pad, and the pad of ones merges into the convolution.
// CHECK-LABEL: func.func @casts_sink
func.func @casts_sink(%b: tensor<1x4x4x2x!bnn.bipolar>) -> tensor<1x2x2x1xf32> {
  %s = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
  %w = bnn.constant dense<1.0> : tensor<1x3x3x2xf32> : tensor<1x3x3x2xf32>
  %0 = bnn.cast %b : (tensor<1x4x4x2x!bnn.bipolar>) -> tensor<1x4x4x2xf32>
  %1 = bnn.mul %0, %s : (tensor<1x4x4x2xf32>, tensor<f32>) -> tensor<1x4x4x2xf32>
  %2 = bnn.max_pool %1 {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x4x4x2xf32>) -> tensor<1x2x2x2xf32>
  %3 = bnn.pad %2 {low = array<i64: 0, 1, 1, 0>, high = array<i64: 0, 1, 1, 0>, value = -0.5 : f32} : (tensor<1x2x2x2xf32>) -> tensor<1x4x4x2xf32>
  %4 = bnn.conv2d %3, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x4x4x2xf32>, tensor<1x3x3x2xf32>) -> tensor<1x2x2x1xf32>
  // CHECK: %[[P:.+]] = bnn.max_pool %b {{.+}} -> tensor<1x2x2x2x!bnn.bipolar>
  // CHECK: bnn.conv2d %[[P]], %{{.+}} pads = array<i64: 1, 1, 1, 1>, groups = 1 : i64, pad_value = -1 : i64} : (tensor<1x2x2x2x!bnn.bipolar>, tensor<1x3x3x2x!bnn.bipolar>) -> tensor<1x2x2x1xi32>
  // CHECK-NEXT: bnn.cast
  // CHECK: bnn.mul
  func.return %4 : tensor<1x2x2x1xf32>
}

// A maximum goes in front of what increases with the accumulator.
// CHECK-LABEL: func.func @max_of_accumulators
func.func @max_of_accumulators(%x: tensor<1x4x4x2xi32>) -> tensor<1x2x2x2xf32> {
  %s = bnn.constant dense<[0.5, 2.0]> : tensor<2xf32> : tensor<2xf32>
  %0 = bnn.cast %x : (tensor<1x4x4x2xi32>) -> tensor<1x4x4x2xf32>
  %1 = bnn.mul %0, %s : (tensor<1x4x4x2xf32>, tensor<2xf32>) -> tensor<1x4x4x2xf32>
  %2 = bnn.max_pool %1 {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x4x4x2xf32>) -> tensor<1x2x2x2xf32>
  // CHECK: %[[P:.+]] = bnn.max_pool %x {{.+}} : (tensor<1x4x4x2xi32>)
  // CHECK-NEXT: %[[C:.+]] = bnn.cast %[[P]]
  // CHECK-NEXT: bnn.mul %[[C]]
  func.return %2 : tensor<1x2x2x2xf32>
}

// Weights on a grid are small integers, in each channel the smallest that fit: two's complement of 2 bits, odd
// numbers, plain signs.
// CHECK-LABEL: func.func @weight_levels
func.func @weight_levels(%b: tensor<1x4x!bnn.level<0, 3>>) -> (tensor<1x2xf32>, tensor<1x1xf32>) {
  %v = bnn.constant dense<[[0.5, -1.0, 0.0, 0.5], [2.0, -2.0, 2.0, 2.0]]> : tensor<2x4xf32> : tensor<2x4xf32>
  %w = bnn.constant dense<[[0.75, -0.25, 0.25, -0.75]]> : tensor<1x4xf32> : tensor<1x4xf32>
  %0 = bnn.cast %b : (tensor<1x4x!bnn.level<0, 3>>) -> tensor<1x4xf32>
  // CHECK: bnn.constant dense<{{\[\[}}1, -2, 0, 1], [1, -1, 1, 1]]> : tensor<2x4xi8> : tensor<2x4x!bnn.level<-2, 1>>
  // CHECK-NEXT: bnn.dense {{.+}} : (tensor<1x4x!bnn.level<0, 3>>, tensor<2x4x!bnn.level<-2, 1>>) -> tensor<1x2xi32>
  // CHECK-NEXT: bnn.cast
  // CHECK-NEXT: bnn.constant dense<[5.000000e-01, 2.000000e+00]>
  %1 = bnn.dense %0, %v : (tensor<1x4xf32>, tensor<2x4xf32>) -> tensor<1x2xf32>
  // CHECK: bnn.constant dense<{{\[\[}}3, -1, 1, -3]]> : tensor<1x4xi8> : tensor<1x4x!bnn.level<-3, 3>>
  %2 = bnn.dense %0, %w : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x1xf32>
  func.return %1, %2 : tensor<1x2xf32>, tensor<1x1xf32>
}

// Near misses: a real activation with two-level weights, a binary activation with weights off any grid, more
// levels than 4 bits have, or slightly uneven weights.
// CHECK-LABEL: func.func @real_layers
func.func @real_layers(%x: tensor<1x2xf32>, %b: tensor<1x2x!bnn.bipolar>) -> (tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x1xf32>) {
  %u = bnn.constant dense<[[1.0, -1.0]]> : tensor<1x2xf32> : tensor<1x2xf32>
  %v = bnn.constant dense<[[1.0, -1.4142]]> : tensor<1x2xf32> : tensor<1x2xf32>
  %t = bnn.constant dense<[[1.0, -9.0]]> : tensor<1x2xf32> : tensor<1x2xf32>
  %w = bnn.constant dense<[[1.0, -1.0001]]> : tensor<1x2xf32> : tensor<1x2xf32>
  %0 = bnn.dense %x, %u : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  %1 = bnn.cast %b : (tensor<1x2x!bnn.bipolar>) -> tensor<1x2xf32>
  %2 = bnn.dense %1, %v : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  %3 = bnn.dense %1, %w : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  %4 = bnn.dense %1, %t : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  // CHECK-COUNT-4: bnn.dense %{{.+}} : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  // CHECK-NOT: i32
  func.return %0, %2, %3, %4 : tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x1xf32>
}

// Near miss: a pad by -1 is no value of bits scaled by 1/2.
// CHECK-LABEL: func.func @pad_between_levels
func.func @pad_between_levels(%b: tensor<1x2x2x1x!bnn.bipolar>) -> tensor<1x4x2x1xf32> {
  %s = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
  %0 = bnn.cast %b : (tensor<1x2x2x1x!bnn.bipolar>) -> tensor<1x2x2x1xf32>
  %1 = bnn.mul %0, %s : (tensor<1x2x2x1xf32>, tensor<f32>) -> tensor<1x2x2x1xf32>
  %2 = bnn.pad %1 {low = array<i64: 0, 1, 0, 0>, high = array<i64: 0, 1, 0, 0>, value = -1.0 : f32} : (tensor<1x2x2x1xf32>) -> tensor<1x4x2x1xf32>
  // CHECK: %[[SCALED:.+]] = bnn.mul
  // CHECK-NEXT: bnn.pad %[[SCALED]]
  func.return %2 : tensor<1x4x2x1xf32>
}

// Near misses: a negative scale turns a maximum into a minimum; bits are not padded by zeros; a pool that is
// read in front of the accumulator's chain too stays where it is.
// CHECK-LABEL: func.func @near_misses
func.func @near_misses(%b: tensor<1x2x2x1x!bnn.bipolar>, %x: tensor<1x2x2x1xi32>) -> (tensor<1x1x1x1xf32>, tensor<1x4x2x1xf32>, tensor<1x1x1x1xf32>, tensor<1x2x2x1xf32>) {
  %s = bnn.constant dense<-0.5> : tensor<f32> : tensor<f32>
  %0 = bnn.cast %b : (tensor<1x2x2x1x!bnn.bipolar>) -> tensor<1x2x2x1xf32>
  %1 = bnn.mul %0, %s : (tensor<1x2x2x1xf32>, tensor<f32>) -> tensor<1x2x2x1xf32>
  %2 = bnn.max_pool %1 {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x2x2x1xf32>) -> tensor<1x1x1x1xf32>
  // CHECK: bnn.max_pool %{{.+}} : (tensor<1x2x2x1xf32>)
  %3 = bnn.pad %0 {low = array<i64: 0, 1, 0, 0>, high = array<i64: 0, 1, 0, 0>, value = 0.0 : f32} : (tensor<1x2x2x1xf32>) -> tensor<1x4x2x1xf32>
  // CHECK-NEXT: bnn.pad %{{.+}} : (tensor<1x2x2x1xf32>)
  %h = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
  %4 = bnn.cast %x : (tensor<1x2x2x1xi32>) -> tensor<1x2x2x1xf32>
  %5 = bnn.mul %4, %h : (tensor<1x2x2x1xf32>, tensor<f32>) -> tensor<1x2x2x1xf32>
  %6 = bnn.max_pool %5 {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x2x2x1xf32>) -> tensor<1x1x1x1xf32>
  // CHECK: bnn.mul
  // CHECK-NEXT: bnn.max_pool %{{.+}} : (tensor<1x2x2x1xf32>)
  func.return %2, %3, %6, %5 : tensor<1x1x1x1xf32>, tensor<1x4x2x1xf32>, tensor<1x1x1x1xf32>, tensor<1x2x2x1xf32>
}
