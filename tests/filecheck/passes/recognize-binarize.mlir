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

// Levels 0 and 1 are the cast of a comparison. Near miss: levels that vary along the channel; and a comparison
// of two computed values is a difference of them.
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
  // CHECK: %[[C:.+]] = bnn.compare %x
  // CHECK-NEXT: bnn.cast %[[C]]
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

// round(clip((x + 1) / 2, 0, 1)) is 1 from the float32 after 0 on which (x + 1) / 2 rounds above 1/2.
// CHECK-LABEL: func.func @hard_sigmoid
func.func @hard_sigmoid(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %two = bnn.constant dense<2.0> : tensor<f32> : tensor<f32>
  %0 = bnn.add %x, %one : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  %1 = bnn.div %0, %two : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  %2 = bnn.clip %1 {low = 0.0 : f32, high = 1.0 : f32} : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %3 = bnn.round %2 : (tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK-NEXT: %[[T:.+]] = bnn.constant dense<5.9604{{.*}}e-08>
  // CHECK-NEXT: %[[C:.+]] = bnn.compare %x, %[[T]] {kind = "ge"}
  // CHECK-NEXT: bnn.cast %[[C]]
  // CHECK-NEXT: func.return
  func.return %3 : tensor<1x4xf32>
}

// (x > 0) - (x < 0) is sign; so is where(x > 0, 1, where(x < 0, -1, 0)).
// CHECK-LABEL: func.func @two_comparisons
func.func @two_comparisons(%x: tensor<1x4xf32>) -> (tensor<1x4xf32>, tensor<1x4xf32>) {
  %zero = bnn.constant dense<0.0> : tensor<f32> : tensor<f32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %minus = bnn.constant dense<-1.0> : tensor<f32> : tensor<f32>
  %a = bnn.compare %x, %zero {kind = "gt"} : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xi1>
  %b = bnn.compare %x, %zero {kind = "lt"} : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xi1>
  %0 = bnn.cast %a : (tensor<1x4xi1>) -> tensor<1x4xf32>
  %1 = bnn.cast %b : (tensor<1x4xi1>) -> tensor<1x4xf32>
  %2 = bnn.sub %0, %1 : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %3 = bnn.select %b, %minus, %zero : (tensor<1x4xi1>, tensor<f32>, tensor<f32>) -> tensor<1x4xf32>
  %4 = bnn.select %a, %one, %3 : (tensor<1x4xi1>, tensor<f32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK-NEXT: bnn.binarize %x {zero = 0 : i64}
  // CHECK-NEXT: bnn.cast
  // CHECK-NEXT: bnn.binarize %x {zero = 0 : i64}
  // CHECK-NEXT: bnn.cast
  // CHECK-NEXT: func.return
  func.return %2, %4 : tensor<1x4xf32>, tensor<1x4xf32>
}

// Assignments in place: x where nothing was assigned is never left. Of a decreasing step the other side counts.
// CHECK-LABEL: func.func @assignments
func.func @assignments(%x: tensor<1x4xf32>) -> (tensor<1x4xf32>, tensor<1x4xf32>) {
  %t = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %minus = bnn.constant dense<-1.0> : tensor<f32> : tensor<f32>
  %a = bnn.compare %x, %t {kind = "ge"} : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xi1>
  %b = bnn.compare %x, %t {kind = "lt"} : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xi1>
  %0 = bnn.select %a, %one, %x : (tensor<1x4xi1>, tensor<f32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %1 = bnn.select %b, %minus, %0 : (tensor<1x4xi1>, tensor<f32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %2 = bnn.select %a, %minus, %x : (tensor<1x4xi1>, tensor<f32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %3 = bnn.select %b, %one, %2 : (tensor<1x4xi1>, tensor<f32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK-NEXT: %[[T:.+]] = bnn.constant dense<5.000000e-01>
  // CHECK-NEXT: %[[D:.+]] = bnn.sub %x, %[[T]]
  // CHECK-NEXT: bnn.binarize %[[D]] {zero = 1 : i64}
  // CHECK-NEXT: bnn.cast
  // CHECK-NEXT: %[[U:.+]] = bnn.constant dense<0.49999997{{.*}}>
  // CHECK-NEXT: %[[E:.+]] = bnn.sub %[[U]], %x
  // CHECK-NEXT: bnn.binarize %[[E]] {zero = 1 : i64}
  // CHECK-NEXT: bnn.cast
  // CHECK-NEXT: func.return
  func.return %1, %3 : tensor<1x4xf32>, tensor<1x4xf32>
}

// A trained threshold for every channel: the clip goes. Near miss: the bound is the clip's own.
// CHECK-LABEL: func.func @trained_threshold
func.func @trained_threshold(%x: tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>) {
  %t = bnn.constant dense<[0.5, 2.0]> : tensor<2xf32> : tensor<2xf32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %zero = bnn.constant dense<0.0> : tensor<f32> : tensor<f32>
  %half = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
  %0 = bnn.div %x, %t : (tensor<1x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  %1 = bnn.clip %0 {low = 0.0 : f32, high = 1.0 : f32} : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %a = bnn.compare %1, %half {kind = "ge"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  %2 = bnn.select %a, %one, %zero : (tensor<1x2xi1>, tensor<f32>, tensor<f32>) -> tensor<1x2xf32>
  %b = bnn.compare %1, %one {kind = "gt"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  %3 = bnn.cast %b : (tensor<1x2xi1>) -> tensor<1x2xf32>
  // CHECK: %[[D:.+]] = bnn.div %x
  // CHECK-NEXT: %[[K:.+]] = bnn.clip %[[D]]
  // CHECK-NEXT: %[[H:.+]] = bnn.constant dense<5.000000e-01>
  // CHECK-NEXT: %[[C:.+]] = bnn.compare %[[D]], %[[H]] {kind = "ge"}
  // CHECK-NEXT: bnn.cast %[[C]]
  // CHECK-NEXT: bnn.compare %[[K]]
  func.return %2, %3 : tensor<1x2xf32>, tensor<1x2xf32>
}

// Near misses: levels -1, 0 and 1 with 0 in an interval, a rounding without bounds, levels that are neither
// symmetric nor 0, and a value that is left as it was between two assignments.
// CHECK-LABEL: func.func @no_two_levels
func.func @no_two_levels(%x: tensor<1x4xf32>) -> (tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>) {
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %three = bnn.constant dense<3.0> : tensor<f32> : tensor<f32>
  %minus = bnn.constant dense<-1.0> : tensor<f32> : tensor<f32>
  %0 = bnn.clip %x {low = -1.0 : f32, high = 1.0 : f32} : (tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK: bnn.clip
  // CHECK-NEXT: bnn.round
  %1 = bnn.round %0 : (tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK-NEXT: bnn.round %x
  %2 = bnn.round %x : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %a = bnn.compare %x, %one {kind = "ge"} : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xi1>
  %b = bnn.compare %x, %minus {kind = "lt"} : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xi1>
  // CHECK: bnn.select
  %3 = bnn.select %a, %one, %three : (tensor<1x4xi1>, tensor<f32>, tensor<f32>) -> tensor<1x4xf32>
  // CHECK-NEXT: bnn.clip
  // CHECK-NEXT: bnn.select
  %4 = bnn.select %a, %one, %x : (tensor<1x4xi1>, tensor<f32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %5 = bnn.select %b, %minus, %4 : (tensor<1x4xi1>, tensor<f32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  func.return %1, %2, %3, %5 : tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>
}

// The identity as estimator is exact as far as sums are: P - (P - s) with P = x. Near miss: P = x + 5 rounds
// where x is small, and an estimate of something else altogether cannot be tried out.
// CHECK-LABEL: func.func @unbounded_estimators
func.func @unbounded_estimators(%x: tensor<1x4xf32>, %z: tensor<1x4xf32>) -> (tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>) {
  %five = bnn.constant dense<5.0> : tensor<f32> : tensor<f32>
  %b = bnn.binarize %x {zero = 0 : i64} : (tensor<1x4xf32>) -> tensor<1x4x!bnn.ternary>
  %s = bnn.cast %b : (tensor<1x4x!bnn.ternary>) -> tensor<1x4xf32>
  // CHECK: %[[S:.+]] = bnn.cast
  %0 = bnn.sub %x, %s : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %1 = bnn.sub %x, %0 : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK: %[[P:.+]] = bnn.add %x
  %p = bnn.add %x, %five : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  // CHECK-NEXT: bnn.sub
  // CHECK-NEXT: bnn.add
  %2 = bnn.sub %s, %p : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %3 = bnn.add %2, %p : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK-NEXT: bnn.sub
  // CHECK-NEXT: bnn.add
  %4 = bnn.sub %s, %z : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %5 = bnn.add %4, %z : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK-NEXT: func.return %[[S]]
  func.return %1, %3, %5 : tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>
}
