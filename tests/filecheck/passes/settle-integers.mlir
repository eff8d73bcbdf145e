// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p settle-integers | filecheck %s

// Between two layers the zero point goes, and so does the type of the file.
// CHECK-LABEL: func.func @between_layers
func.func @between_layers(%q: tensor<1x4x!bnn.level<-100, 155>>) -> tensor<1x4xf32> {
  // CHECK-NEXT: %[[N:.+]] = bnn.cast %q : (tensor<1x4x!bnn.level<-100, 155>>) -> tensor<1x4xf32>
  // CHECK-NEXT: func.return %[[N]]
  %zero = bnn.constant dense<1.000000e+02> : tensor<f32> : tensor<f32>
  %0 = bnn.cast %q : (tensor<1x4x!bnn.level<-100, 155>>) -> tensor<1x4xf32>
  %1 = bnn.add %0, %zero : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  %2 = bnn.cast %1 : (tensor<1x4xf32>) -> tensor<1x4xui8>
  %3 = bnn.cast %2 : (tensor<1x4xui8>) -> tensor<1x4xf32>
  %4 = bnn.sub %3, %zero : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  func.return %4 : tensor<1x4xf32>
}

// Integers scaled and divided by the same number are rounded and clipped already.
// CHECK-LABEL: func.func @rounded_already
func.func @rounded_already(%q: tensor<1x4x!bnn.level<-100, 155>>) -> tensor<1x4xf32> {
  // CHECK-NEXT: %[[N:.+]] = bnn.cast %q
  // CHECK-NEXT: func.return %[[N]]
  %s = bnn.constant dense<0.1> : tensor<f32> : tensor<f32>
  %0 = bnn.cast %q : (tensor<1x4x!bnn.level<-100, 155>>) -> tensor<1x4xf32>
  %1 = bnn.mul %0, %s : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  %2 = bnn.div %1, %s : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  %3 = bnn.round %2 : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %4 = bnn.clip %3 {high = 1.550000e+02 : f64, low = -1.000000e+02 : f64} : (tensor<1x4xf32>) -> tensor<1x4xf32>
  func.return %4 : tensor<1x4xf32>
}

// Near misses: another scale, a narrower clip, a type that does not hold all of them, another zero point.
// CHECK-LABEL: func.func @another_scale
func.func @another_scale(%q: tensor<1x4x!bnn.level<-100, 155>>) -> (tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>) {
  %s = bnn.constant dense<0.1> : tensor<f32> : tensor<f32>
  %t = bnn.constant dense<0.2> : tensor<f32> : tensor<f32>
  %0 = bnn.cast %q : (tensor<1x4x!bnn.level<-100, 155>>) -> tensor<1x4xf32>
  %1 = bnn.mul %0, %s : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  %2 = bnn.div %1, %t : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  // CHECK: bnn.round
  %3 = bnn.round %2 : (tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK: bnn.clip
  %4 = bnn.clip %0 {high = 1.540000e+02 : f64, low = -1.000000e+02 : f64} : (tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK: bnn.cast %{{.+}} : (tensor<1x4xf32>) -> tensor<1x4xui8>
  %5 = bnn.cast %0 : (tensor<1x4xf32>) -> tensor<1x4xui8>
  %6 = bnn.cast %5 : (tensor<1x4xui8>) -> tensor<1x4xf32>
  // CHECK: bnn.add
  %7 = bnn.add %0, %s : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  // CHECK: bnn.sub
  %8 = bnn.sub %7, %t : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  func.return %3, %4, %6, %8 : tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>
}

// Near misses: what is added is no integer; 0 divides by what was multiplied.
// CHECK-LABEL: func.func @fractions
func.func @fractions(%x: tensor<1x4x!bnn.level<0, 255>>) -> (tensor<1x4xf32>, tensor<1x4xf32>) {
  %0 = bnn.cast %x : (tensor<1x4x!bnn.level<0, 255>>) -> tensor<1x4xf32>
  %s = bnn.constant dense<0.1> : tensor<f32> : tensor<f32>
  %z = bnn.constant dense<0.0> : tensor<f32> : tensor<f32>
  // CHECK: bnn.add
  %1 = bnn.add %0, %s : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  // CHECK: bnn.sub
  %2 = bnn.sub %1, %s : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  %3 = bnn.mul %0, %z : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  %4 = bnn.div %3, %z : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  // CHECK: bnn.round
  %5 = bnn.round %4 : (tensor<1x4xf32>) -> tensor<1x4xf32>
  // A level, so that the pass has something to look at.
  %6 = bnn.cast %5 : (tensor<1x4xf32>) -> tensor<1x4xui8>
  %7 = bnn.cast %6 : (tensor<1x4xui8>) -> tensor<1x4xf32>
  func.return %2, %7 : tensor<1x4xf32>, tensor<1x4xf32>
}
