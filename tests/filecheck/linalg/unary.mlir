// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-bnn-to-linalg | filecheck %s

// One operand, element by element: one linalg.generic each.

// CHECK-LABEL: func.func @neg
// CHECK: linalg.generic
// CHECK: arith.negf
// CHECK-NEXT: linalg.yield
func.func @neg(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.neg %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @abs
// CHECK: linalg.generic
// CHECK: math.absf
// CHECK-NEXT: linalg.yield
func.func @abs(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.abs %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @relu
// CHECK: linalg.generic
// CHECK: arith.maximumf
// CHECK-NEXT: linalg.yield
func.func @relu(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.relu %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @sqrt
// CHECK: linalg.generic
// CHECK: math.sqrt
// CHECK-NEXT: linalg.yield
func.func @sqrt(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.sqrt %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @exp
// CHECK: linalg.generic
// CHECK: math.exp
// CHECK-NEXT: linalg.yield
func.func @exp(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.exp %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @log
// CHECK: linalg.generic
// CHECK: math.log
// CHECK-NEXT: linalg.yield
func.func @log(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.log %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @tanh
// CHECK: linalg.generic
// CHECK: math.tanh
// CHECK-NEXT: linalg.yield
func.func @tanh(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.tanh %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @sigmoid
// CHECK: linalg.generic
// CHECK: math.exp
// CHECK: arith.addf
// CHECK: arith.divf
// CHECK-NEXT: linalg.yield
func.func @sigmoid(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.sigmoid %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @round
// CHECK: linalg.generic
// CHECK: math.roundeven
// CHECK-NEXT: linalg.yield
func.func @round(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.round %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @floor
// CHECK: linalg.generic
// CHECK: math.floor
// CHECK-NEXT: linalg.yield
func.func @floor(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.floor %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @ceil
// CHECK: linalg.generic
// CHECK: math.ceil
// CHECK-NEXT: linalg.yield
func.func @ceil(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.ceil %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @erf
// CHECK: linalg.generic
// CHECK: math.erf
// CHECK-NEXT: linalg.yield
func.func @erf(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.erf %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @neg_of_integers
// CHECK: arith.constant 0 : i32
// CHECK: arith.subi
func.func @neg_of_integers(%x: tensor<2x3xi32>) -> tensor<2x3xi32> {
  %0 = bnn.neg %x : (tensor<2x3xi32>) -> tensor<2x3xi32>
  func.return %0 : tensor<2x3xi32>
}

// CHECK-LABEL: func.func @abs_of_integers
// CHECK: math.absi
func.func @abs_of_integers(%x: tensor<2x3xi32>) -> tensor<2x3xi32> {
  %0 = bnn.abs %x : (tensor<2x3xi32>) -> tensor<2x3xi32>
  func.return %0 : tensor<2x3xi32>
}

// CHECK-LABEL: func.func @relu_of_integers
// CHECK: arith.maxsi
func.func @relu_of_integers(%x: tensor<2x3xi32>) -> tensor<2x3xi32> {
  %0 = bnn.relu %x : (tensor<2x3xi32>) -> tensor<2x3xi32>
  func.return %0 : tensor<2x3xi32>
}
