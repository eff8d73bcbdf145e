// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p recognize-levels | filecheck %s

// A quantiser as QONNX has it: divide, clip, round, multiply. The integers get a domain, the scale stays behind.
// CHECK-LABEL: func.func @signed_levels
func.func @signed_levels(%x: tensor<1x2xf32>) -> tensor<1x1xf32> {
  %s = bnn.constant dense<0.25> : tensor<f32> : tensor<f32>
  %w = bnn.constant dense<[[0.5, -0.5]]> : tensor<1x2xf32> : tensor<1x2xf32>
  %0 = bnn.div %x, %s : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %1 = bnn.clip %0 {low = -2.0 : f32, high = 1.0 : f32} : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %2 = bnn.round %1 : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %3 = bnn.mul %2, %s : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %4 = bnn.dense %3, %w : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  // CHECK: %[[Q:.+]] = bnn.round
  // CHECK: %[[L:.+]] = bnn.cast %[[Q]] : (tensor<1x2xf32>) -> tensor<1x2x!bnn.level<-2, 1>>
  // CHECK-NEXT: %[[R:.+]] = bnn.cast %[[L]] : (tensor<1x2x!bnn.level<-2, 1>>) -> tensor<1x2xf32>
  // CHECK-NEXT: %[[S:.+]] = bnn.constant dense<2.500000e-01>
  // CHECK-NEXT: %[[X:.+]] = bnn.mul %[[R]], %[[S]]
  // CHECK-NEXT: bnn.dense %[[X]]
  func.return %4 : tensor<1x1xf32>
}

// DoReFa's activations: round(clip(x, 0, 1) * 3) / 3. A zero point moves the levels.
// CHECK-LABEL: func.func @dorefa_and_zero_point
func.func @dorefa_and_zero_point(%x: tensor<1x2xf32>) -> (tensor<1x1xf32>, tensor<1x1xf32>) {
  %s = bnn.constant dense<3.0> : tensor<f32> : tensor<f32>
  %z = bnn.constant dense<2.0> : tensor<f32> : tensor<f32>
  %w = bnn.constant dense<[[1.0, -1.0]]> : tensor<1x2xf32> : tensor<1x2xf32>
  %0 = bnn.clip %x {low = 0.0 : f32, high = 1.0 : f32} : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %1 = bnn.mul %0, %s : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %2 = bnn.round %1 : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %3 = bnn.div %2, %s : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %4 = bnn.dense %3, %w : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  // CHECK: bnn.cast {{.+}} -> tensor<1x2x!bnn.level<0, 3>>
  // CHECK-NEXT: bnn.cast
  // CHECK-NEXT: bnn.constant dense<0.333333343>
  %5 = bnn.sub %2, %z : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %6 = bnn.dense %5, %w : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  // CHECK: bnn.cast {{.+}} -> tensor<1x2x!bnn.level<-2, 1>>
  func.return %4, %6 : tensor<1x1xf32>, tensor<1x1xf32>
}

// What a comparison decides is one bit; levels stay what they are behind a maximum and a reshape.
// CHECK-LABEL: func.func @spikes_and_pools
func.func @spikes_and_pools(%x: tensor<1x2x2x1xf32>, %c: tensor<1x4xi1>) -> (tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x1xf32>) {
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %half = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
  %zero = bnn.constant dense<0.0> : tensor<f32> : tensor<f32>
  %w = bnn.constant dense<[[1.0, -1.0, 1.0, 1.0]]> : tensor<1x4xf32> : tensor<1x4xf32>
  %v = bnn.constant dense<[[1.0]]> : tensor<1x1xf32> : tensor<1x1xf32>
  %0 = bnn.select %c, %one, %zero : (tensor<1x4xi1>, tensor<f32>, tensor<f32>) -> tensor<1x4xf32>
  %1 = bnn.dense %0, %w : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x1xf32>
  // CHECK: bnn.cast %c : (tensor<1x4xi1>) -> tensor<1x4x!bnn.spike>
  %2 = bnn.select %c, %half, %zero : (tensor<1x4xi1>, tensor<f32>, tensor<f32>) -> tensor<1x4xf32>
  %3 = bnn.dense %2, %w : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x1xf32>
  // CHECK: bnn.round
  // CHECK-NEXT: bnn.cast {{.+}} -> tensor<1x4x!bnn.spike>
  // CHECK: bnn.constant dense<5.000000e-01>
  %4 = bnn.round %x : (tensor<1x2x2x1xf32>) -> tensor<1x2x2x1xf32>
  %5 = bnn.clip %4 {low = 0.0 : f32, high = 15.0 : f32} : (tensor<1x2x2x1xf32>) -> tensor<1x2x2x1xf32>
  %6 = bnn.max_pool %5 {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x2x2x1xf32>) -> tensor<1x1x1x1xf32>
  %7 = bnn.reshape %6 : (tensor<1x1x1x1xf32>) -> tensor<1x1xf32>
  %8 = bnn.dense %7, %v : (tensor<1x1xf32>, tensor<1x1xf32>) -> tensor<1x1xf32>
  // CHECK: %[[P:.+]] = bnn.max_pool
  // CHECK-NEXT: bnn.cast %[[P]] : (tensor<1x1x1x1xf32>) -> tensor<1x1x1x1x!bnn.level<0, 15>>
  // CHECK-NEXT: %[[R:.+]] = bnn.cast
  // CHECK-NEXT: bnn.reshape %[[R]]
  func.return %1, %3, %8 : tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x1xf32>
}

// Pixels of 8 bits: what is cast from them is known. An offset that no step divides becomes a constant.
// CHECK-LABEL: func.func @pixels
func.func @pixels(%x: tensor<1x2xui8>) -> (tensor<1x1xf32>, tensor<1x1xf32>) {
  %m = bnn.constant dense<127.5> : tensor<f32> : tensor<f32>
  %w = bnn.constant dense<[[1.0, 1.0]]> : tensor<1x2xf32> : tensor<1x2xf32>
  %0 = bnn.cast %x : (tensor<1x2xui8>) -> tensor<1x2xf32>
  %1 = bnn.dense %0, %w : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  %2 = bnn.sub %0, %m : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %3 = bnn.dense %2, %w : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  // CHECK: bnn.cast {{.+}} -> tensor<1x2x!bnn.level<0, 255>>
  // CHECK: bnn.cast {{.+}} -> tensor<1x2x!bnn.level<0, 255>>
  // CHECK: %[[Y:.+]] = bnn.dense
  // CHECK-NEXT: %[[C:.+]] = bnn.constant dense<-2.550000e+02>
  // CHECK-NEXT: bnn.add %[[Y]], %[[C]]
  func.return %1, %3 : tensor<1x1xf32>, tensor<1x1xf32>
}

// Near misses: a scale that differs along what is summed, one level too many, bounds off the grid, no upper bound,
// weights off any grid, and rounding before a factor that is unknown.
// CHECK-LABEL: func.func @real_activations
func.func @real_activations(%x: tensor<1x2xf32>, %t: tensor<1x2xf32>) -> (tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x1xf32>) {
  // CHECK-NOT: bnn.level
  // CHECK-NOT: bnn.spike
  %s = bnn.constant dense<[[0.25, 0.5]]> : tensor<1x2xf32> : tensor<1x2xf32>
  %w = bnn.constant dense<[[1.0, -1.0]]> : tensor<1x2xf32> : tensor<1x2xf32>
  %u = bnn.constant dense<[[1.0, -0.7071]]> : tensor<1x2xf32> : tensor<1x2xf32>
  %0 = bnn.round %x : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %1 = bnn.clip %0 {low = 0.0 : f32, high = 3.0 : f32} : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %2 = bnn.mul %1, %s : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %3 = bnn.dense %2, %w : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  %4 = bnn.clip %0 {low = 0.0 : f32, high = 256.0 : f32} : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %5 = bnn.dense %4, %w : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  %6 = bnn.clip %0 {low = 0.0 : f32, high = 2.5 : f32} : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %7 = bnn.dense %6, %w : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  %8 = bnn.relu %0 : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %9 = bnn.dense %8, %w : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  %10 = bnn.dense %1, %u : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  %11 = bnn.mul %1, %t : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %12 = bnn.dense %11, %w : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  func.return %3, %5, %7, %9, %10, %12 : tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x1xf32>, tensor<1x1xf32>
}
