// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p recognize-binarize,fold-constants | filecheck %s

// CHECK-LABEL: func.func @where
func.func @where(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %zero = bnn.constant dense<0.0> : tensor<f32> : tensor<f32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %minus = bnn.constant dense<-1.0> : tensor<f32> : tensor<f32>
  %c = bnn.compare %x, %zero {kind = "ge"} : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xi1>
  %y = bnn.select %c, %one, %minus : (tensor<1x4xi1>, tensor<f32>, tensor<f32>) -> tensor<1x4xf32>
  // CHECK-NEXT: %[[B:.+]] = bnn.binarize %x {zero = 1 : i64}
  // CHECK-NEXT: %[[Y:.+]] = bnn.cast %[[B]]
  // CHECK-NEXT: func.return %[[Y]]
  func.return %y : tensor<1x4xf32>
}

// 0 >= x with the constant in front; the zero goes with the side that includes it.
// CHECK-LABEL: func.func @constant_first
func.func @constant_first(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %zero = bnn.constant dense<0.0> : tensor<f32> : tensor<f32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %minus = bnn.constant dense<-1.0> : tensor<f32> : tensor<f32>
  %c = bnn.compare %zero, %x {kind = "ge"} : (tensor<f32>, tensor<1x4xf32>) -> tensor<1x4xi1>
  %y = bnn.select %c, %one, %minus : (tensor<1x4xi1>, tensor<f32>, tensor<f32>) -> tensor<1x4xf32>
  // CHECK-NEXT: %[[N:.+]] = bnn.neg %x
  // CHECK-NEXT: bnn.binarize %[[N]] {zero = 1 : i64}
  func.return %y : tensor<1x4xf32>
}

// CHECK-LABEL: func.func @two_casts_minus_one
func.func @two_casts_minus_one(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %t = bnn.constant dense<0.25> : tensor<4xf32> : tensor<4xf32>
  %two = bnn.constant dense<2.0> : tensor<f32> : tensor<f32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %c = bnn.compare %x, %t {kind = "gt"} : (tensor<1x4xf32>, tensor<4xf32>) -> tensor<1x4xi1>
  %0 = bnn.cast %c : (tensor<1x4xi1>) -> tensor<1x4xf32>
  %1 = bnn.mul %0, %two : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  %y = bnn.sub %1, %one : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  // CHECK: %[[D:.+]] = bnn.sub %x
  // CHECK-NEXT: bnn.binarize %[[D]] {zero = -1 : i64}
  // CHECK-NEXT: bnn.cast
  // CHECK-NEXT: func.return
  func.return %y : tensor<1x4xf32>
}

// Larq: Sign(Sign(x) + 0.1).
// CHECK-LABEL: func.func @sign_of_sign
func.func @sign_of_sign(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %tenth = bnn.constant dense<0.1> : tensor<f32> : tensor<f32>
  %0 = bnn.binarize %x {zero = 0 : i64} : (tensor<1x4xf32>) -> tensor<1x4x!bnn.ternary>
  %1 = bnn.cast %0 : (tensor<1x4x!bnn.ternary>) -> tensor<1x4xf32>
  %2 = bnn.add %1, %tenth : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  %3 = bnn.binarize %2 {zero = 0 : i64} : (tensor<1x4xf32>) -> tensor<1x4x!bnn.ternary>
  %4 = bnn.cast %3 : (tensor<1x4x!bnn.ternary>) -> tensor<1x4xf32>
  // CHECK-NEXT: bnn.binarize %x {zero = 1 : i64}
  // CHECK-NEXT: bnn.cast
  // CHECK-NEXT: func.return
  func.return %4 : tensor<1x4xf32>
}

// bitorch: Where(Sign(x) == 0, 1, Sign(x)).
// CHECK-LABEL: func.func @where_sign_is_zero
func.func @where_sign_is_zero(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %zero = bnn.constant dense<0.0> : tensor<f32> : tensor<f32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %0 = bnn.binarize %x {zero = 0 : i64} : (tensor<1x4xf32>) -> tensor<1x4x!bnn.ternary>
  %1 = bnn.cast %0 : (tensor<1x4x!bnn.ternary>) -> tensor<1x4xf32>
  %c = bnn.compare %1, %zero {kind = "eq"} : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xi1>
  %y = bnn.select %c, %one, %1 : (tensor<1x4xi1>, tensor<f32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK-NEXT: bnn.binarize %x {zero = 1 : i64}
  // CHECK-NEXT: bnn.cast
  // CHECK-NEXT: func.return
  func.return %y : tensor<1x4xf32>
}

// What straight-through estimators leave, in three orders.
// CHECK-LABEL: func.func @estimators
func.func @estimators(%x: tensor<1x4xf32>) -> (tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>) {
  %p = bnn.tanh %x : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %b = bnn.binarize %x {zero = 0 : i64} : (tensor<1x4xf32>) -> tensor<1x4x!bnn.ternary>
  %s = bnn.cast %b : (tensor<1x4x!bnn.ternary>) -> tensor<1x4xf32>
  %0 = bnn.sub %s, %p : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %1 = bnn.add %0, %p : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %2 = bnn.add %p, %0 : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %n = bnn.neg %p : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %3 = bnn.add %n, %s : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %4 = bnn.add %3, %p : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK-NEXT: bnn.binarize %x {zero = 0 : i64}
  // CHECK-NEXT: %[[S:.+]] = bnn.cast
  // CHECK-NEXT: func.return %[[S]], %[[S]], %[[S]]
  func.return %1, %2, %4 : tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>
}

// Brevitas: a clamp by comparisons in front, a scale behind.
// CHECK-LABEL: func.func @clamp_chain
func.func @clamp_chain(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %zero = bnn.constant dense<0.0> : tensor<f32> : tensor<f32>
  %s = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
  %m = bnn.constant dense<-0.5> : tensor<f32> : tensor<f32>
  %a = bnn.compare %x, %s {kind = "gt"} : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xi1>
  %0 = bnn.select %a, %s, %x : (tensor<1x4xi1>, tensor<f32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %b = bnn.compare %0, %m {kind = "lt"} : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xi1>
  %1 = bnn.select %b, %m, %0 : (tensor<1x4xi1>, tensor<f32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %c = bnn.compare %1, %zero {kind = "ge"} : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xi1>
  %y = bnn.select %c, %s, %m : (tensor<1x4xi1>, tensor<f32>, tensor<f32>) -> tensor<1x4xf32>
  // CHECK-NEXT: %[[B:.+]] = bnn.binarize %x {zero = 1 : i64}
  // CHECK-NEXT: %[[C:.+]] = bnn.cast %[[B]]
  // CHECK-NEXT: %[[S:.+]] = bnn.constant dense<5.000000e-01>
  // CHECK-NEXT: bnn.mul %[[C]], %[[S]]
  func.return %y : tensor<1x4xf32>
}

// Near misses: levels 0 and 1, levels that vary along the channel, and a comparison of two computed values is
// a difference of them.
// CHECK-LABEL: func.func @other_levels
func.func @other_levels(%x: tensor<1x2xf32>, %z: tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>) {
  %zero = bnn.constant dense<0.0> : tensor<f32> : tensor<f32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %minus = bnn.constant dense<-1.0> : tensor<f32> : tensor<f32>
  %v = bnn.constant dense<[1.0, 2.0]> : tensor<2xf32> : tensor<2xf32>
  %w = bnn.constant dense<[-1.0, -2.0]> : tensor<2xf32> : tensor<2xf32>
  %c = bnn.compare %x, %zero {kind = "ge"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  %0 = bnn.select %c, %one, %zero : (tensor<1x2xi1>, tensor<f32>, tensor<f32>) -> tensor<1x2xf32>
  %1 = bnn.select %c, %v, %w : (tensor<1x2xi1>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  // CHECK: bnn.compare
  // CHECK-NEXT: bnn.select
  // CHECK-NEXT: bnn.select
  %d = bnn.compare %x, %z {kind = "ge"} : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xi1>
  %2 = bnn.select %d, %one, %minus : (tensor<1x2xi1>, tensor<f32>, tensor<f32>) -> tensor<1x2xf32>
  // CHECK-NEXT: %[[D:.+]] = bnn.sub %x, %z
  // CHECK-NEXT: bnn.binarize %[[D]] {zero = 1 : i64}
  func.return %0, %1, %2 : tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>
}

// Near misses: two different estimates, an estimate of something that is not a sign, a clip that cuts at 0.
// CHECK-LABEL: func.func @near_misses
func.func @near_misses(%x: tensor<1x4xf32>) -> (tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4x!bnn.bipolar>) {
  %p = bnn.tanh %x : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %q = bnn.sigmoid %x : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %b = bnn.binarize %x {zero = 0 : i64} : (tensor<1x4xf32>) -> tensor<1x4x!bnn.ternary>
  %s = bnn.cast %b : (tensor<1x4x!bnn.ternary>) -> tensor<1x4xf32>
  %0 = bnn.sub %s, %p : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %1 = bnn.add %0, %q : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK: bnn.sub
  // CHECK-NEXT: %[[KEPT:.+]] = bnn.add
  %2 = bnn.sub %q, %p : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %3 = bnn.add %2, %p : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK-NEXT: bnn.sub
  // CHECK-NEXT: %[[KEPT_TOO:.+]] = bnn.add
  %4 = bnn.clip %x {low = 0.0 : f32, high = 1.0 : f32} : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %5 = bnn.binarize %4 {zero = 1 : i64} : (tensor<1x4xf32>) -> tensor<1x4x!bnn.bipolar>
  // CHECK-NEXT: bnn.clip
  // CHECK-NEXT: bnn.binarize
  // CHECK-NEXT: func.return %[[KEPT]], %[[KEPT_TOO]]
  func.return %1, %3, %5 : tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4x!bnn.bipolar>
}
