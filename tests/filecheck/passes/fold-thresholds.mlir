// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p fold-thresholds | filecheck %s

// Sums of 4 values in {-1, +1} are -4, -2, 0, 2, 4. Channels: x + 1 >= 0 from 0 on; -x + 1 >= 0 up to 0, so
// reversed from 2 on; 0 * x + 1 always; 0 * x - 1 never.
// CHECK-LABEL: func.func @batch_norm
func.func @batch_norm(%b: tensor<1x4x!bnn.bipolar>) -> tensor<1x4x!bnn.bipolar> {
  %w = bnn.constant dense<1> : tensor<4x4xi8> : tensor<4x4x!bnn.bipolar>
  %s = bnn.constant dense<[1.0, -1.0, 0.0, 0.0]> : tensor<4xf32> : tensor<4xf32>
  %o = bnn.constant dense<[1.0, 1.0, 1.0, -1.0]> : tensor<4xf32> : tensor<4xf32>
  %m = bnn.constant dense<0.0> : tensor<4xf32> : tensor<4xf32>
  %v = bnn.constant dense<1.0> : tensor<4xf32> : tensor<4xf32>
  %0 = bnn.dense %b, %w : (tensor<1x4x!bnn.bipolar>, tensor<4x4x!bnn.bipolar>) -> tensor<1x4xi32>
  %1 = bnn.cast %0 : (tensor<1x4xi32>) -> tensor<1x4xf32>
  %2 = bnn.batch_norm %1, %s, %o, %m, %v {epsilon = 0.0 : f32} : (tensor<1x4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4xf32>
  %3 = bnn.binarize %2 {zero = 1 : i64} : (tensor<1x4xf32>) -> tensor<1x4x!bnn.bipolar>
  // CHECK: %[[SUM:.+]] = bnn.dense
  // CHECK-NEXT: bnn.threshold %[[SUM]] {thresholds = dense<[0, 2, -4, 5]> : tensor<4xi32>, signs = dense<[1, -1, 1, 1]> : tensor<4xi8>}
  func.return %3 : tensor<1x4x!bnn.bipolar>
}

// A clamp by comparisons reads the sum twice; the fold looks through it and through a max_pool.
// CHECK-LABEL: func.func @clamp
func.func @clamp(%b: tensor<1x2x2x1x!bnn.bipolar>) -> tensor<1x1x1x1x!bnn.bipolar> {
  %w = bnn.constant dense<1> : tensor<1x1x1x1xi8> : tensor<1x1x1x1x!bnn.bipolar>
  %h = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
  %0 = bnn.conv2d %b, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x2x2x1x!bnn.bipolar>, tensor<1x1x1x1x!bnn.bipolar>) -> tensor<1x2x2x1xi32>
  %1 = bnn.max_pool %0 {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x2x2x1xi32>) -> tensor<1x1x1x1xi32>
  %2 = bnn.cast %1 : (tensor<1x1x1x1xi32>) -> tensor<1x1x1x1xf32>
  %3 = bnn.compare %2, %h {kind = "gt"} : (tensor<1x1x1x1xf32>, tensor<f32>) -> tensor<1x1x1x1xi1>
  %4 = bnn.select %3, %h, %2 : (tensor<1x1x1x1xi1>, tensor<f32>, tensor<1x1x1x1xf32>) -> tensor<1x1x1x1xf32>
  %5 = bnn.binarize %4 {zero = 0 : i64} : (tensor<1x1x1x1xf32>) -> tensor<1x1x1x1x!bnn.ternary>
  %6 = bnn.reshape %5 : (tensor<1x1x1x1x!bnn.ternary>) -> tensor<1x1x1x1x!bnn.ternary>
  // CHECK: %[[P:.+]] = bnn.max_pool
  // CHECK-NEXT: bnn.threshold %[[P]] {thresholds = dense<1> : tensor<1xi32>, signs = dense<1> : tensor<1xi8>}
  %7 = bnn.cast %6 : (tensor<1x1x1x1x!bnn.ternary>) -> tensor<1x1x1x1xf32>
  %8 = bnn.binarize %7 {zero = 1 : i64} : (tensor<1x1x1x1xf32>) -> tensor<1x1x1x1x!bnn.bipolar>
  func.return %8 : tensor<1x1x1x1x!bnn.bipolar>
}

// Zeros in the padding reach every integer: x >= 1 starts at 1, not at 2.
// CHECK-LABEL: func.func @zero_padding
func.func @zero_padding(%b: tensor<1x1x2x2x!bnn.bipolar>) -> tensor<1x1x2x1x!bnn.bipolar> {
  %w = bnn.constant dense<1> : tensor<1x1x2x2xi8> : tensor<1x1x2x2x!bnn.bipolar>
  %h = bnn.constant dense<-0.5> : tensor<f32> : tensor<f32>
  %0 = bnn.conv2d %b, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 1>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x1x2x2x!bnn.bipolar>, tensor<1x1x2x2x!bnn.bipolar>) -> tensor<1x1x2x1xi32>
  %1 = bnn.cast %0 : (tensor<1x1x2x1xi32>) -> tensor<1x1x2x1xf32>
  %2 = bnn.add %1, %h : (tensor<1x1x2x1xf32>, tensor<f32>) -> tensor<1x1x2x1xf32>
  %3 = bnn.binarize %2 {zero = 1 : i64} : (tensor<1x1x2x1xf32>) -> tensor<1x1x2x1x!bnn.bipolar>
  // CHECK: bnn.threshold %{{.+}} {thresholds = dense<1> : tensor<1xi32>
  func.return %3 : tensor<1x1x2x1x!bnn.bipolar>
}

// Near miss: sign(0) = 0 and an even number of taps reaches 0; with an odd number it does not.
// CHECK-LABEL: func.func @zero_reachable
func.func @zero_reachable(%b: tensor<1x4x!bnn.bipolar>, %c: tensor<1x3x!bnn.bipolar>) -> (tensor<1x1x!bnn.ternary>, tensor<1x1xf32>) {
  %w = bnn.constant dense<1> : tensor<1x4xi8> : tensor<1x4x!bnn.bipolar>
  %v = bnn.constant dense<1> : tensor<1x3xi8> : tensor<1x3x!bnn.bipolar>
  %0 = bnn.dense %b, %w : (tensor<1x4x!bnn.bipolar>, tensor<1x4x!bnn.bipolar>) -> tensor<1x1xi32>
  %1 = bnn.cast %0 : (tensor<1x1xi32>) -> tensor<1x1xf32>
  %2 = bnn.binarize %1 {zero = 0 : i64} : (tensor<1x1xf32>) -> tensor<1x1x!bnn.ternary>
  // CHECK: bnn.binarize %{{.+}} {zero = 0 : i64}
  %3 = bnn.dense %c, %v : (tensor<1x3x!bnn.bipolar>, tensor<1x3x!bnn.bipolar>) -> tensor<1x1xi32>
  %4 = bnn.cast %3 : (tensor<1x1xi32>) -> tensor<1x1xf32>
  %5 = bnn.binarize %4 {zero = 0 : i64} : (tensor<1x1xf32>) -> tensor<1x1x!bnn.ternary>
  // CHECK: bnn.threshold %{{.+}} {thresholds = dense<1> : tensor<1xi32>
  %6 = bnn.cast %5 : (tensor<1x1x!bnn.ternary>) -> tensor<1x1xf32>
  func.return %2, %6 : tensor<1x1x!bnn.ternary>, tensor<1x1xf32>
}

// Near misses: not monotone; another computed value in the chain; a constant that varies over the image; an
// integer that no contraction made.
// CHECK-LABEL: func.func @near_misses
func.func @near_misses(%b: tensor<1x1x2x4x!bnn.bipolar>, %r: tensor<1x1x2x1xf32>, %i: tensor<1x1x2x1xi32>) -> (tensor<1x1x2x1x!bnn.bipolar>, tensor<1x1x2x1x!bnn.bipolar>, tensor<1x1x2x1x!bnn.bipolar>, tensor<1x1x2x1x!bnn.bipolar>) {
  // CHECK-NOT: bnn.threshold
  %w = bnn.constant dense<1> : tensor<1x4xi8> : tensor<1x4x!bnn.bipolar>
  %h = bnn.constant dense<-3.0> : tensor<f32> : tensor<f32>
  %p = bnn.constant dense<[[[[1.0], [2.0]]]]> : tensor<1x1x2x1xf32> : tensor<1x1x2x1xf32>
  %0 = bnn.dense %b, %w : (tensor<1x1x2x4x!bnn.bipolar>, tensor<1x4x!bnn.bipolar>) -> tensor<1x1x2x1xi32>
  %1 = bnn.cast %0 : (tensor<1x1x2x1xi32>) -> tensor<1x1x2x1xf32>
  %2 = bnn.abs %1 : (tensor<1x1x2x1xf32>) -> tensor<1x1x2x1xf32>
  %3 = bnn.add %2, %h : (tensor<1x1x2x1xf32>, tensor<f32>) -> tensor<1x1x2x1xf32>
  %4 = bnn.binarize %3 {zero = 1 : i64} : (tensor<1x1x2x1xf32>) -> tensor<1x1x2x1x!bnn.bipolar>
  %5 = bnn.add %1, %r : (tensor<1x1x2x1xf32>, tensor<1x1x2x1xf32>) -> tensor<1x1x2x1xf32>
  %6 = bnn.binarize %5 {zero = 1 : i64} : (tensor<1x1x2x1xf32>) -> tensor<1x1x2x1x!bnn.bipolar>
  %7 = bnn.add %1, %p : (tensor<1x1x2x1xf32>, tensor<1x1x2x1xf32>) -> tensor<1x1x2x1xf32>
  %8 = bnn.binarize %7 {zero = 1 : i64} : (tensor<1x1x2x1xf32>) -> tensor<1x1x2x1x!bnn.bipolar>
  %9 = bnn.cast %i : (tensor<1x1x2x1xi32>) -> tensor<1x1x2x1xf32>
  %10 = bnn.binarize %9 {zero = 1 : i64} : (tensor<1x1x2x1xf32>) -> tensor<1x1x2x1x!bnn.bipolar>
  // CHECK: func.return
  func.return %4, %6, %8, %10 : tensor<1x1x2x1x!bnn.bipolar>, tensor<1x1x2x1x!bnn.bipolar>, tensor<1x1x2x1x!bnn.bipolar>, tensor<1x1x2x1x!bnn.bipolar>
}

// Near miss: the pad by 0 holds values that no bipolar tensor can.
// CHECK-LABEL: func.func @padded_by_zero
func.func @padded_by_zero(%b: tensor<1x1x1x1x!bnn.bipolar>) -> tensor<1x3x1x1xf32> {
  %w = bnn.constant dense<1> : tensor<1x1x1x1xi8> : tensor<1x1x1x1x!bnn.bipolar>
  %0 = bnn.conv2d %b, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x1x1x1x!bnn.bipolar>, tensor<1x1x1x1x!bnn.bipolar>) -> tensor<1x1x1x1xi32>
  %1 = bnn.cast %0 : (tensor<1x1x1x1xi32>) -> tensor<1x1x1x1xf32>
  // CHECK: bnn.binarize
  // CHECK-NEXT: bnn.pad
  %2 = bnn.binarize %1 {zero = 0 : i64} : (tensor<1x1x1x1xf32>) -> tensor<1x1x1x1x!bnn.ternary>
  %3 = bnn.pad %2 {low = array<i64: 0, 1, 0, 0>, high = array<i64: 0, 1, 0, 0>, value = 0.0 : f32} : (tensor<1x1x1x1x!bnn.ternary>) -> tensor<1x3x1x1x!bnn.ternary>
  %4 = bnn.cast %3 : (tensor<1x3x1x1x!bnn.ternary>) -> tensor<1x3x1x1xf32>
  func.return %4 : tensor<1x3x1x1xf32>
}

// A comparison of a sum, scaled and shifted, is one of the sum itself; channels that fall are turned around.
// CHECK-LABEL: func.func @comparison
func.func @comparison(%x: tensor<1x4x!bnn.spike>, %w: tensor<2x4x!bnn.bipolar>) -> tensor<1x2xi1> {
  %scale = bnn.constant dense<[0.5, -0.5]> : tensor<2xf32> : tensor<2xf32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %n = bnn.dense %x, %w : (tensor<1x4x!bnn.spike>, tensor<2x4x!bnn.bipolar>) -> tensor<1x2xi32>
  %f = bnn.cast %n : (tensor<1x2xi32>) -> tensor<1x2xf32>
  %m = bnn.mul %f, %scale : (tensor<1x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  %c = bnn.compare %m, %one {kind = "ge"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  // CHECK: %[[T:.+]] = bnn.mul %n, %{{.+}} : (tensor<1x2xi32>, tensor<2xi32>) -> tensor<1x2xi32>
  // CHECK: %[[L:.+]] = bnn.constant dense<2> : tensor<2xi32>
  // CHECK: bnn.compare %[[T]], %[[L]] {kind = "ge"}
  func.return %c : tensor<1x2xi1>
}

// What else is read of the arithmetic keeps it, and so the comparison.
// CHECK-LABEL: func.func @also_a_state
func.func @also_a_state(%x: tensor<1x4x!bnn.spike>, %w: tensor<2x4x!bnn.bipolar>) -> (tensor<1x2xi1>, tensor<1x2xf32>) {
  %scale = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %n = bnn.dense %x, %w : (tensor<1x4x!bnn.spike>, tensor<2x4x!bnn.bipolar>) -> tensor<1x2xi32>
  %f = bnn.cast %n : (tensor<1x2xi32>) -> tensor<1x2xf32>
  %m = bnn.mul %f, %scale : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  // CHECK: bnn.compare %m, %one {kind = "ge"} : (tensor<1x2xf32>
  %c = bnn.compare %m, %one {kind = "ge"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  func.return %c, %m : tensor<1x2xi1>, tensor<1x2xf32>
}
