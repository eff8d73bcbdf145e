// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p recognize-spikes | filecheck %s

// A comparison read as numbers is spikes; the weights are real, so they are summed over events.
// CHECK-LABEL: func.func @spikes
func.func @spikes(%v: tensor<1x64xf32>) -> tensor<1x32xf32> {
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %w = bnn.constant dense<0.3> : tensor<32x64xf32> : tensor<32x64xf32>
  %0 = bnn.compare %v, %one {kind = "gt"} : (tensor<1x64xf32>, tensor<f32>) -> tensor<1x64xi1>
  %1 = bnn.cast %0 : (tensor<1x64xi1>) -> tensor<1x64xf32>
  %2 = bnn.dense %1, %w : (tensor<1x64xf32>, tensor<32x64xf32>) -> tensor<1x32xf32>
  // CHECK: %[[S:.+]] = bnn.cast %{{.+}} : (tensor<1x64xi1>) -> tensor<1x64x!bnn.spike>
  // CHECK: bnn.dense %[[S]], %{{.+}} {density = {{.+}}, density_from = "assumed"} : (tensor<1x64x!bnn.spike>, tensor<32x64xf32>) -> tensor<1x32xf32>
  func.return %2 : tensor<1x32xf32>
}

// The mean of four spikes is a count times 1/4, and that goes into the weights; through the reshape too.
// CHECK-LABEL: func.func @pooled
func.func @pooled(%s: tensor<1x4x4x32x!bnn.spike>) -> tensor<1x32xf32> {
  %w = bnn.constant dense<0.5> : tensor<32x128xf32> : tensor<32x128xf32>
  %0 = bnn.cast %s : (tensor<1x4x4x32x!bnn.spike>) -> tensor<1x4x4x32xf32>
  %1 = bnn.mean_pool %0 {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, count_outside = 0 : i64} : (tensor<1x4x4x32xf32>) -> tensor<1x2x2x32xf32>
  %2 = bnn.reshape %1 : (tensor<1x2x2x32xf32>) -> tensor<1x128xf32>
  %3 = bnn.dense %2, %w : (tensor<1x128xf32>, tensor<32x128xf32>) -> tensor<1x32xf32>
  // CHECK: bnn.count_pool %{{.+}} -> tensor<1x2x2x32x!bnn.level<0, 4>>
  // CHECK-NOT: bnn.mean_pool
  // CHECK: bnn.constant dense<1.250000e-01> : tensor<32x128xf32>
  // CHECK: bnn.dense %{{.+}} : (tensor<1x128x!bnn.level<0, 4>>, tensor<32x128xf32>) -> tensor<1x32xf32>
  func.return %3 : tensor<1x32xf32>
}

// A layer so small that the loop over events costs more than its products stays one of numbers, and says so.
// CHECK-LABEL: func.func @small
func.func @small(%s: tensor<1x2x!bnn.spike>) -> tensor<1x2xf32> {
  %w = bnn.constant dense<0.3> : tensor<2x2xf32> : tensor<2x2xf32>
  %0 = bnn.cast %s : (tensor<1x2x!bnn.spike>) -> tensor<1x2xf32>
  %1 = bnn.dense %0, %w : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  // CHECK: bnn.dense %{{.+}} {density = {{.+}}, density_from = "assumed"} : (tensor<1x2xf32>, tensor<2x2xf32>)
  func.return %1 : tensor<1x2xf32>
}

// Not spikes: real numbers, levels below 0, a mean of windows that count different numbers of taps.
// CHECK-LABEL: func.func @near_misses
func.func @near_misses(%x: tensor<1x2xf32>, %b: tensor<1x2x!bnn.bipolar>, %s: tensor<1x2x2x1x!bnn.spike>) -> (tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x2x2x1xf32>) {
  %w = bnn.constant dense<[[0.5, -2.0]]> : tensor<1x2xf32> : tensor<1x2xf32>
  %k = bnn.constant dense<0.3> : tensor<1x1x1x1xf32> : tensor<1x1x1x1xf32>
  %0 = bnn.dense %x, %w : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  %1 = bnn.cast %b : (tensor<1x2x!bnn.bipolar>) -> tensor<1x2xf32>
  %2 = bnn.dense %1, %w : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  %3 = bnn.cast %s : (tensor<1x2x2x1x!bnn.spike>) -> tensor<1x2x2x1xf32>
  %4 = bnn.mean_pool %3 {kernel = array<i64: 2, 2>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 0, 0, 1>, count_outside = 0 : i64} : (tensor<1x2x2x1xf32>) -> tensor<1x2x2x1xf32>
  %5 = bnn.conv2d %4, %k {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x2x2x1xf32>, tensor<1x1x1x1xf32>) -> tensor<1x2x2x1xf32>
  // CHECK-NOT: density
  // CHECK: func.return
  func.return %0, %2, %5 : tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x2x2x1xf32>
}

// Layers in groups, too: kernels that scatter take them.
// CHECK-LABEL: func.func @groups
func.func @groups(%s: tensor<1x2x2x2x!bnn.spike>) -> tensor<1x2x2x2xf32> {
  %w = bnn.constant dense<0.3> : tensor<2x1x1x1xf32> : tensor<2x1x1x1xf32>
  %0 = bnn.cast %s : (tensor<1x2x2x2x!bnn.spike>) -> tensor<1x2x2x2xf32>
  %1 = bnn.conv2d %0, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 2 : i64, pad_value = 0 : i64} : (tensor<1x2x2x2xf32>, tensor<2x1x1x1xf32>) -> tensor<1x2x2x2xf32>
  // CHECK: bnn.conv2d {{.+}} {density = 1.000000e-01 : f32, density_from = "assumed", {{.+}}groups = 2
  // CHECK: func.return
  func.return %1 : tensor<1x2x2x2xf32>
}
