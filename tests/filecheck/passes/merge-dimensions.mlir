// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p merge-dimensions | filecheck %s

// What follows each other is merged alike, and the reshapes between cancel.
// CHECK-LABEL: func.func @chain
func.func @chain(%x: tensor<2x3x4x5x6xf32>, %s: tensor<4x1x1xf32>) -> tensor<2x3x4x5x6xf32> {
  %m = bnn.mul %x, %s : (tensor<2x3x4x5x6xf32>, tensor<4x1x1xf32>) -> tensor<2x3x4x5x6xf32>
  %r = bnn.relu %m : (tensor<2x3x4x5x6xf32>) -> tensor<2x3x4x5x6xf32>
  // CHECK-NEXT: %[[X:.+]] = bnn.reshape %x : (tensor<2x3x4x5x6xf32>) -> tensor<6x4x30xf32>
  // CHECK-NEXT: %[[S:.+]] = bnn.reshape %s : (tensor<4x1x1xf32>) -> tensor<1x4x1xf32>
  // CHECK-NEXT: %[[M:.+]] = bnn.mul %[[X]], %[[S]]
  // CHECK-NEXT: %[[R:.+]] = bnn.relu %[[M]] : (tensor<6x4x30xf32>) -> tensor<6x4x30xf32>
  // CHECK-NEXT: bnn.reshape %[[R]] : (tensor<6x4x30xf32>) -> tensor<2x3x4x5x6xf32>
  func.return %r : tensor<2x3x4x5x6xf32>
}

// Thresholds are indexed by the last dimension, which stays.
// CHECK-LABEL: func.func @channels
func.func @channels(%x: tensor<1x2x3x4x2xi32>) -> tensor<1x2x3x4x2x!bnn.bipolar> {
  %t = bnn.threshold %x {thresholds = dense<[3, 5]> : tensor<2xi32>, signs = dense<1> : tensor<2xi8>} : (tensor<1x2x3x4x2xi32>) -> tensor<1x2x3x4x2x!bnn.bipolar>
  // CHECK: bnn.threshold {{.*}} -> tensor<24x2x!bnn.bipolar>
  func.return %t : tensor<1x2x3x4x2x!bnn.bipolar>
}

// Five dimensions that repeat in turns: one operand is written out, which leaves four.
// CHECK-LABEL: func.func @turns
func.func @turns(%x: tensor<2x1x4x1x6xf32>, %y: tensor<1x3x1x5x1xf32>) -> tensor<2x3x4x5x6xf32> {
  %a = bnn.add %x, %y : (tensor<2x1x4x1x6xf32>, tensor<1x3x1x5x1xf32>) -> tensor<2x3x4x5x6xf32>
  // CHECK: bnn.constant dense<-0.000000e+00>
  // CHECK-NOT: bnn.add {{.*}} -> tensor<2x3x4x5x6xf32>
  // CHECK: func.return
  func.return %a : tensor<2x3x4x5x6xf32>
}

// Near miss: four dimensions are what kernels know.
// CHECK-LABEL: func.func @four
func.func @four(%x: tensor<2x3x4x5xf32>, %s: tensor<4x1xf32>) -> tensor<2x3x4x5xf32> {
  // CHECK-NEXT: bnn.mul %x, %s
  // CHECK-NEXT: func.return
  %m = bnn.mul %x, %s : (tensor<2x3x4x5xf32>, tensor<4x1xf32>) -> tensor<2x3x4x5xf32>
  func.return %m : tensor<2x3x4x5xf32>
}
