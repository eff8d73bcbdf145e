// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p fold-batch-norm | filecheck %s

// CHECK-LABEL: func.func @batch_norm
func.func @batch_norm(%x: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %s = bnn.constant dense<[1.0, -3.0]> : tensor<2xf32> : tensor<2xf32>
  %b = bnn.constant dense<[0.5, 1.0]> : tensor<2xf32> : tensor<2xf32>
  %m = bnn.constant dense<[4.0, 2.0]> : tensor<2xf32> : tensor<2xf32>
  %v = bnn.constant dense<[4.0, 1.0]> : tensor<2xf32> : tensor<2xf32>
  %y = bnn.batch_norm %x, %s, %b, %m, %v {epsilon = 0.0 : f32} : (tensor<1x2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  // CHECK-NEXT: %[[F:.+]] = bnn.constant dense<[5.000000e-01, -3.000000e+00]>
  // CHECK-NEXT: %[[P:.+]] = bnn.mul %x, %[[F]]
  // CHECK-NEXT: %[[O:.+]] = bnn.constant dense<[-1.500000e+00, 7.000000e+00]>
  // CHECK-NEXT: bnn.add %[[P]], %[[O]]
  func.return %y : tensor<1x2xf32>
}

// CHECK-LABEL: func.func @merges_constants
func.func @merges_constants(%x: tensor<1x2xi32>) -> tensor<1x2xf32> {
  %a = bnn.constant dense<[2.0, 3.0]> : tensor<2xf32> : tensor<2xf32>
  %h = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
  %n = bnn.cast %x : (tensor<1x2xi32>) -> tensor<1x2xf32>
  %0 = bnn.div %n, %h : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %1 = bnn.mul %0, %a : (tensor<1x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  // CHECK: %[[C:.+]] = bnn.constant dense<[4.000000e+00, 6.000000e+00]>
  // CHECK-NEXT: bnn.mul %{{.+}}, %[[C]]
  // CHECK-NEXT: func.return
  func.return %1 : tensor<1x2xf32>
}

// CHECK-LABEL: func.func @scale_before_batch_norm
func.func @scale_before_batch_norm(%x: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %a = bnn.constant dense<3.0> : tensor<f32> : tensor<f32>
  %s = bnn.constant dense<[1.0, -3.0]> : tensor<2xf32> : tensor<2xf32>
  %b = bnn.constant dense<[0.5, 1.0]> : tensor<2xf32> : tensor<2xf32>
  %v = bnn.constant dense<[4.0, 1.0]> : tensor<2xf32> : tensor<2xf32>
  %n = bnn.neg %x : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %0 = bnn.mul %n, %a : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %y = bnn.batch_norm %0, %s, %b, %b, %v {epsilon = 0.0 : f32} : (tensor<1x2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  // CHECK: %[[F:.+]] = bnn.constant dense<[1.500000e+00, -9.000000e+00]>
  // CHECK-NEXT: %[[P:.+]] = bnn.mul %{{.+}}, %[[F]]
  // CHECK-NEXT: %[[O:.+]] = bnn.constant dense<[2.500000e-01, 4.000000e+00]>
  // CHECK-NEXT: bnn.add %[[P]], %[[O]]
  // CHECK-NEXT: func.return
  func.return %y : tensor<1x2xf32>
}

// Near misses: a scale that something else reads; one whose product with the other float32 does not hold.
// CHECK-LABEL: func.func @scales_that_stay_before_batch_norm
func.func @scales_that_stay_before_batch_norm(%x: tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>) {
  %a = bnn.constant dense<3.0> : tensor<f32> : tensor<f32>
  %t = bnn.constant dense<1.0e-30> : tensor<f32> : tensor<f32>
  %s = bnn.constant dense<[1.0e-10, 1.0]> : tensor<2xf32> : tensor<2xf32>
  %b = bnn.constant dense<[0.5, 1.0]> : tensor<2xf32> : tensor<2xf32>
  %v = bnn.constant dense<[4.0, 1.0]> : tensor<2xf32> : tensor<2xf32>
  %n = bnn.neg %x : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %0 = bnn.mul %n, %a : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %1 = bnn.batch_norm %0, %s, %b, %b, %v {epsilon = 0.0 : f32} : (tensor<1x2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  // CHECK: %[[READ:.+]] = bnn.mul
  // CHECK: bnn.mul %[[READ]]
  %2 = bnn.mul %n, %t : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %3 = bnn.batch_norm %2, %s, %b, %b, %v {epsilon = 0.0 : f32} : (tensor<1x2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  // CHECK: %[[TINY:.+]] = bnn.mul
  // CHECK: bnn.mul %[[TINY]]
  func.return %0, %1, %3 : tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>
}

// Near misses: the inner value is read elsewhere; a division by what is no power of two rounds differently.
// CHECK-LABEL: func.func @near_misses
func.func @near_misses(%x: tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>) {
  %a = bnn.constant dense<2.0> : tensor<f32> : tensor<f32>
  %t = bnn.constant dense<3.0> : tensor<f32> : tensor<f32>
  %n = bnn.neg %x : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %0 = bnn.mul %n, %a : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %1 = bnn.mul %0, %t : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %2 = bnn.div %1, %t : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  // CHECK: %[[INNER:.+]] = bnn.mul
  // CHECK: bnn.mul %[[INNER]]
  // CHECK: bnn.div
  func.return %0, %2 : tensor<1x2xf32>, tensor<1x2xf32>
}

// Near misses: what rounds to an integer or to sixteenths is no addition of 0; products that round twice, by
// numbers that are no powers of two or so small that bits are lost, and of what is no integer.
// CHECK-LABEL: func.func @constants_that_stay_apart
func.func @constants_that_stay_apart(%x: tensor<1x2xf32>, %i: tensor<1x2xi32>) -> (tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>) {
  %m = bnn.constant dense<12582912.0> : tensor<f32> : tensor<f32>
  %k = bnn.constant dense<524288.0> : tensor<f32> : tensor<f32>
  %s = bnn.constant dense<1.52587890625e-30> : tensor<f32> : tensor<f32>
  %t = bnn.constant dense<0.3> : tensor<f32> : tensor<f32>
  %d = bnn.constant dense<2.0> : tensor<f32> : tensor<f32>
  %p = bnn.constant dense<5.421010862427522e-20> : tensor<f32> : tensor<f32>
  %n = bnn.neg %x : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %j = bnn.cast %i : (tensor<1x2xi32>) -> tensor<1x2xf32>
  %0 = bnn.add %n, %m : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %1 = bnn.sub %0, %m : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  // CHECK: %[[MOVED:.+]] = bnn.add
  // CHECK: bnn.add %[[MOVED]]
  %2 = bnn.add %n, %k : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %3 = bnn.sub %2, %k : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  // CHECK: %[[MOVED:.+]] = bnn.add
  // CHECK: bnn.add %[[MOVED]]
  %4 = bnn.mul %j, %t : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %5 = bnn.mul %4, %t : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  // CHECK: %[[SCALED:.+]] = bnn.mul
  // CHECK: bnn.mul %[[SCALED]]
  %6 = bnn.mul %j, %p : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %7 = bnn.mul %6, %s : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  // CHECK: %[[SCALED:.+]] = bnn.mul
  // CHECK: bnn.mul %[[SCALED]]
  %8 = bnn.mul %n, %t : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %9 = bnn.mul %8, %d : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  // CHECK: %[[SCALED:.+]] = bnn.mul
  // CHECK: bnn.mul %[[SCALED]]
  func.return %1, %3, %5, %7, %9 : tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>
}

// Near miss: parameters that are computed.
// CHECK-LABEL: func.func @computed_parameters
func.func @computed_parameters(%x: tensor<1x2xf32>, %p: tensor<2xf32>) -> tensor<1x2xf32> {
  %y = bnn.batch_norm %x, %p, %p, %p, %p {epsilon = 0.0 : f32} : (tensor<1x2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  // CHECK-NEXT: bnn.batch_norm
  func.return %y : tensor<1x2xf32>
}

// Near miss: one divisor of two is a power of two.
// CHECK-LABEL: func.func @some_powers_of_two
func.func @some_powers_of_two(%x: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %c = bnn.constant dense<[2.0, 3.0]> : tensor<2xf32> : tensor<2xf32>
  // CHECK: bnn.div %x
  %y = bnn.div %x, %c : (tensor<1x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  func.return %y : tensor<1x2xf32>
}
