// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p fold-constants | filecheck %s

// CHECK-LABEL: func.func @evaluates
func.func @evaluates() -> tensor<3xf32> {
  %a = bnn.constant dense<[1.0, -2.0, 3.0]> : tensor<3xf32> : tensor<3xf32>
  %b = bnn.constant dense<2.0> : tensor<f32> : tensor<f32>
  %n = bnn.neg %b : (tensor<f32>) -> tensor<f32>
  %y = bnn.mul %a, %n : (tensor<3xf32>, tensor<f32>) -> tensor<3xf32>
  // CHECK-NEXT: %[[Y:.+]] = bnn.constant dense<[-2.000000e+00, 4.000000e+00, -6.000000e+00]>
  // CHECK-NEXT: func.return %[[Y]]
  func.return %y : tensor<3xf32>
}

// CHECK-LABEL: func.func @drops_what_changes_nothing
func.func @drops_what_changes_nothing(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %zero = bnn.constant dense<0.0> : tensor<3xf32> : tensor<3xf32>
  %one = bnn.constant dense<1.0> : tensor<1xf32> : tensor<1xf32>
  %0 = bnn.add %zero, %x : (tensor<3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %1 = bnn.div %0, %one : (tensor<2x3xf32>, tensor<1xf32>) -> tensor<2x3xf32>
  %2 = bnn.cast %1 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %3 = bnn.clip %2 {low = 0xFF800000 : f32, high = 0x7F800000 : f32} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: func.return %x
  func.return %3 : tensor<2x3xf32>
}

// A whole tensor of ones is a scalar; one that varies along the channel keeps that dimension.
// CHECK-LABEL: func.func @compresses
func.func @compresses(%c: tensor<1x2x2x2xi1>, %x: tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32> {
  %ones = bnn.constant dense<1.0> : tensor<1x2x2x2xf32> : tensor<1x2x2x2xf32>
  %0 = bnn.select %c, %ones, %x : (tensor<1x2x2x2xi1>, tensor<1x2x2x2xf32>, tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32>
  // CHECK-NEXT: %[[ONE:.+]] = bnn.constant dense<1.000000e+00> : tensor<f32>
  // CHECK-NEXT: bnn.select %c, %[[ONE]], %x
  %v = bnn.constant dense<[[[[1.0, 2.0], [1.0, 2.0]]]]> : tensor<1x1x2x2xf32> : tensor<1x1x2x2xf32>
  %1 = bnn.mul %0, %v : (tensor<1x2x2x2xf32>, tensor<1x1x2x2xf32>) -> tensor<1x2x2x2xf32>
  // CHECK-NEXT: %[[V:.+]] = bnn.constant dense<[1.000000e+00, 2.000000e+00]> : tensor<2xf32>
  // CHECK-NEXT: bnn.mul %{{.+}}, %[[V]]
  func.return %1 : tensor<1x2x2x2xf32>
}

// Near misses: 0 - x and 1 / x are not x, and a constant that gives the result its shape stays whole.
// CHECK-LABEL: func.func @near_misses
func.func @near_misses(%x: tensor<3xf32>) -> tensor<2x3xf32> {
  %zero = bnn.constant dense<0.0> : tensor<f32> : tensor<f32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %0 = bnn.sub %zero, %x : (tensor<f32>, tensor<3xf32>) -> tensor<3xf32>
  // CHECK: bnn.sub
  %1 = bnn.div %one, %0 : (tensor<f32>, tensor<3xf32>) -> tensor<3xf32>
  // CHECK: bnn.div
  %w = bnn.constant dense<1.0> : tensor<2x3xf32> : tensor<2x3xf32>
  %2 = bnn.mul %1, %w : (tensor<3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: bnn.mul %{{.+}}, %{{.+}} : (tensor<3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %2 : tensor<2x3xf32>
}
