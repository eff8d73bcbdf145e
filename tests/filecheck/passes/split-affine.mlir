// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p split-affine,fold-constants | filecheck %s

// Weights 0.3125 +- 1: signs of +-1, and 0.3125 times the sum of the inputs.
// CHECK-LABEL: func.func @weights
func.func @weights(%b: tensor<2x4x!bnn.bipolar>) -> tensor<2x2xf32> {
  %w = bnn.constant dense<[[1.3125, -0.6875, 1.3125, -0.6875], [-0.6875, -0.6875, -0.6875, 1.3125]]> : tensor<2x4xf32> : tensor<2x4xf32>
  %x = bnn.cast %b : (tensor<2x4x!bnn.bipolar>) -> tensor<2x4xf32>
  %y = bnn.dense %x, %w : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x2xf32>
  // CHECK: %[[W:.+]] = bnn.constant dense<{{\[\[}}1.000000e+00, -1.000000e+00, 1.000000e+00, -1.000000e+00], [-1.000000e+00, -1.000000e+00, -1.000000e+00, 1.000000e+00]]>
  // CHECK-NEXT: %[[D:.+]] = bnn.dense %[[X:.+]], %[[W]]
  // CHECK-NEXT: %[[ONES:.+]] = bnn.constant dense<1.000000e+00> : tensor<1x4xf32>
  // CHECK-NEXT: %[[SUM:.+]] = bnn.dense %[[X]], %[[ONES]]
  // CHECK: %[[HALF:.+]] = bnn.mul %[[SUM]]
  // CHECK-NEXT: bnn.add %[[D]], %[[HALF]]
  func.return %y : tensor<2x2xf32>
}

// Inputs 2 s + 1 with the border 0: what 1 adds is an image.
// CHECK-LABEL: func.func @activations
func.func @activations(%b: tensor<1x3x3x1x!bnn.bipolar>) -> tensor<1x3x3x1xf32> {
  %w = bnn.constant dense<1.0> : tensor<1x3x3x1xf32> : tensor<1x3x3x1xf32>
  %two = bnn.constant dense<2.0> : tensor<f32> : tensor<f32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %c = bnn.cast %b : (tensor<1x3x3x1x!bnn.bipolar>) -> tensor<1x3x3x1xf32>
  %s = bnn.mul %c, %two : (tensor<1x3x3x1xf32>, tensor<f32>) -> tensor<1x3x3x1xf32>
  %x = bnn.add %s, %one : (tensor<1x3x3x1xf32>, tensor<f32>) -> tensor<1x3x3x1xf32>
  %y = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x3x3x1xf32>, tensor<1x3x3x1xf32>) -> tensor<1x3x3x1xf32>
  // CHECK: %[[S:.+]] = bnn.mul
  // CHECK: %[[C:.+]] = bnn.conv2d %[[S]]
  // CHECK-NEXT: %[[K:.+]] = bnn.constant dense<{{.*}}4.000000e+00{{.*}}6.000000e+00{{.*}}4.000000e+00{{.*}}6.000000e+00{{.*}}9.000000e+00
  // CHECK-NEXT: bnn.add %[[C]], %[[K]]
  func.return %y : tensor<1x3x3x1xf32>
}

// Near misses: three levels, levels 0 and 1, two taps only, a real input, an offset for every channel.
// CHECK-LABEL: func.func @near_misses
func.func @near_misses(%b: tensor<2x4x!bnn.bipolar>, %p: tensor<2x2x!bnn.bipolar>, %r: tensor<2x4xf32>) -> (tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>) {
  %three = bnn.constant dense<[[1.3125, -0.6875, 1.3125, -0.1875]]> : tensor<1x4xf32> : tensor<1x4xf32>
  %zero = bnn.constant dense<[[1.0, 0.0, 1.0, 0.0]]> : tensor<1x4xf32> : tensor<1x4xf32>
  %pair = bnn.constant dense<[[1.3125, -0.6875]]> : tensor<1x2xf32> : tensor<1x2xf32>
  %two = bnn.constant dense<[[1.3125, -0.6875, -0.6875, -0.6875]]> : tensor<1x4xf32> : tensor<1x4xf32>
  %signs = bnn.constant dense<[[1.0, -1.0, -1.0, -1.0]]> : tensor<1x4xf32> : tensor<1x4xf32>
  %offsets = bnn.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32> : tensor<4xf32>
  %x = bnn.cast %b : (tensor<2x4x!bnn.bipolar>) -> tensor<2x4xf32>
  %q = bnn.cast %p : (tensor<2x2x!bnn.bipolar>) -> tensor<2x2xf32>
  // CHECK: bnn.dense
  // CHECK-NEXT: bnn.dense
  // CHECK-NEXT: bnn.dense
  // CHECK-NEXT: bnn.dense
  // CHECK-NEXT: bnn.add
  // CHECK-NEXT: bnn.dense
  // CHECK-NEXT: func.return
  %0 = bnn.dense %x, %three : (tensor<2x4xf32>, tensor<1x4xf32>) -> tensor<2x1xf32>
  %1 = bnn.dense %x, %zero : (tensor<2x4xf32>, tensor<1x4xf32>) -> tensor<2x1xf32>
  %2 = bnn.dense %q, %pair : (tensor<2x2xf32>, tensor<1x2xf32>) -> tensor<2x1xf32>
  %3 = bnn.dense %r, %two : (tensor<2x4xf32>, tensor<1x4xf32>) -> tensor<2x1xf32>
  %moved = bnn.add %x, %offsets : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>
  %4 = bnn.dense %moved, %signs : (tensor<2x4xf32>, tensor<1x4xf32>) -> tensor<2x1xf32>
  func.return %0, %1, %2, %3, %4 : tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>
}
