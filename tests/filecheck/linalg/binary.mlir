// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-bnn-to-linalg | filecheck %s

// Two operands; what is broadcast is read at 0, or has fewer dimensions.

// CHECK-LABEL: func.func @add
// CHECK: affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d1, 0)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>
// CHECK: arith.addf
// CHECK-NEXT: linalg.yield
func.func @add(%x: tensor<2x3x4xf32>, %y: tensor<3x1xf32>) -> tensor<2x3x4xf32> {
  %0 = bnn.add %x, %y : (tensor<2x3x4xf32>, tensor<3x1xf32>) -> tensor<2x3x4xf32>
  func.return %0 : tensor<2x3x4xf32>
}

// CHECK-LABEL: func.func @add_of_integers
// CHECK: arith.addi
// CHECK-NEXT: linalg.yield
func.func @add_of_integers(%x: tensor<2x3xi32>, %y: tensor<2x3xi32>) -> tensor<2x3xi32> {
  %0 = bnn.add %x, %y : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  func.return %0 : tensor<2x3xi32>
}

// CHECK-LABEL: func.func @sub
// CHECK: affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d1, 0)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>
// CHECK: arith.subf
// CHECK-NEXT: linalg.yield
func.func @sub(%x: tensor<2x3x4xf32>, %y: tensor<3x1xf32>) -> tensor<2x3x4xf32> {
  %0 = bnn.sub %x, %y : (tensor<2x3x4xf32>, tensor<3x1xf32>) -> tensor<2x3x4xf32>
  func.return %0 : tensor<2x3x4xf32>
}

// CHECK-LABEL: func.func @sub_of_integers
// CHECK: arith.subi
// CHECK-NEXT: linalg.yield
func.func @sub_of_integers(%x: tensor<2x3xi32>, %y: tensor<2x3xi32>) -> tensor<2x3xi32> {
  %0 = bnn.sub %x, %y : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  func.return %0 : tensor<2x3xi32>
}

// CHECK-LABEL: func.func @mul
// CHECK: affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d1, 0)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>
// CHECK: arith.mulf
// CHECK-NEXT: linalg.yield
func.func @mul(%x: tensor<2x3x4xf32>, %y: tensor<3x1xf32>) -> tensor<2x3x4xf32> {
  %0 = bnn.mul %x, %y : (tensor<2x3x4xf32>, tensor<3x1xf32>) -> tensor<2x3x4xf32>
  func.return %0 : tensor<2x3x4xf32>
}

// CHECK-LABEL: func.func @mul_of_integers
// CHECK: arith.muli
// CHECK-NEXT: linalg.yield
func.func @mul_of_integers(%x: tensor<2x3xi32>, %y: tensor<2x3xi32>) -> tensor<2x3xi32> {
  %0 = bnn.mul %x, %y : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  func.return %0 : tensor<2x3xi32>
}

// CHECK-LABEL: func.func @div
// CHECK: affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d1, 0)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>
// CHECK: arith.divf
// CHECK-NEXT: linalg.yield
func.func @div(%x: tensor<2x3x4xf32>, %y: tensor<3x1xf32>) -> tensor<2x3x4xf32> {
  %0 = bnn.div %x, %y : (tensor<2x3x4xf32>, tensor<3x1xf32>) -> tensor<2x3x4xf32>
  func.return %0 : tensor<2x3x4xf32>
}

// CHECK-LABEL: func.func @div_of_integers
// CHECK: arith.divsi
// CHECK-NEXT: linalg.yield
func.func @div_of_integers(%x: tensor<2x3xi32>, %y: tensor<2x3xi32>) -> tensor<2x3xi32> {
  %0 = bnn.div %x, %y : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  func.return %0 : tensor<2x3xi32>
}

// CHECK-LABEL: func.func @max
// CHECK: affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d1, 0)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>
// CHECK: arith.maximumf
// CHECK-NEXT: linalg.yield
func.func @max(%x: tensor<2x3x4xf32>, %y: tensor<3x1xf32>) -> tensor<2x3x4xf32> {
  %0 = bnn.max %x, %y : (tensor<2x3x4xf32>, tensor<3x1xf32>) -> tensor<2x3x4xf32>
  func.return %0 : tensor<2x3x4xf32>
}

// CHECK-LABEL: func.func @max_of_integers
// CHECK: arith.maxsi
// CHECK-NEXT: linalg.yield
func.func @max_of_integers(%x: tensor<2x3xi32>, %y: tensor<2x3xi32>) -> tensor<2x3xi32> {
  %0 = bnn.max %x, %y : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  func.return %0 : tensor<2x3xi32>
}

// CHECK-LABEL: func.func @min
// CHECK: affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d1, 0)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>
// CHECK: arith.minimumf
// CHECK-NEXT: linalg.yield
func.func @min(%x: tensor<2x3x4xf32>, %y: tensor<3x1xf32>) -> tensor<2x3x4xf32> {
  %0 = bnn.min %x, %y : (tensor<2x3x4xf32>, tensor<3x1xf32>) -> tensor<2x3x4xf32>
  func.return %0 : tensor<2x3x4xf32>
}

// CHECK-LABEL: func.func @min_of_integers
// CHECK: arith.minsi
// CHECK-NEXT: linalg.yield
func.func @min_of_integers(%x: tensor<2x3xi32>, %y: tensor<2x3xi32>) -> tensor<2x3xi32> {
  %0 = bnn.min %x, %y : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  func.return %0 : tensor<2x3xi32>
}

// CHECK-LABEL: func.func @pow
// CHECK: affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d1, 0)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>
// CHECK: math.powf
// CHECK-NEXT: linalg.yield
func.func @pow(%x: tensor<2x3x4xf32>, %y: tensor<3x1xf32>) -> tensor<2x3x4xf32> {
  %0 = bnn.pow %x, %y : (tensor<2x3x4xf32>, tensor<3x1xf32>) -> tensor<2x3x4xf32>
  func.return %0 : tensor<2x3x4xf32>
}

// CHECK-LABEL: func.func @ge(
// CHECK: arith.cmpf oge
// CHECK: arith.cmpi sge,
func.func @ge(%x: tensor<2x3xf32>, %y: tensor<3xf32>, %i: tensor<2xi32>) -> (tensor<2x3xi1>, tensor<2xi1>) {
  %0 = bnn.compare %x, %y {kind = "ge"} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  %1 = bnn.compare %i, %i {kind = "ge"} : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi1>
  func.return %0, %1 : tensor<2x3xi1>, tensor<2xi1>
}

// CHECK-LABEL: func.func @gt(
// CHECK: arith.cmpf ogt
// CHECK: arith.cmpi sgt,
func.func @gt(%x: tensor<2x3xf32>, %y: tensor<3xf32>, %i: tensor<2xi32>) -> (tensor<2x3xi1>, tensor<2xi1>) {
  %0 = bnn.compare %x, %y {kind = "gt"} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  %1 = bnn.compare %i, %i {kind = "gt"} : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi1>
  func.return %0, %1 : tensor<2x3xi1>, tensor<2xi1>
}

// CHECK-LABEL: func.func @le(
// CHECK: arith.cmpf ole
// CHECK: arith.cmpi sle,
func.func @le(%x: tensor<2x3xf32>, %y: tensor<3xf32>, %i: tensor<2xi32>) -> (tensor<2x3xi1>, tensor<2xi1>) {
  %0 = bnn.compare %x, %y {kind = "le"} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  %1 = bnn.compare %i, %i {kind = "le"} : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi1>
  func.return %0, %1 : tensor<2x3xi1>, tensor<2xi1>
}

// CHECK-LABEL: func.func @lt(
// CHECK: arith.cmpf olt
// CHECK: arith.cmpi slt,
func.func @lt(%x: tensor<2x3xf32>, %y: tensor<3xf32>, %i: tensor<2xi32>) -> (tensor<2x3xi1>, tensor<2xi1>) {
  %0 = bnn.compare %x, %y {kind = "lt"} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  %1 = bnn.compare %i, %i {kind = "lt"} : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi1>
  func.return %0, %1 : tensor<2x3xi1>, tensor<2xi1>
}

// CHECK-LABEL: func.func @eq(
// CHECK: arith.cmpf oeq
// CHECK: arith.cmpi eq,
func.func @eq(%x: tensor<2x3xf32>, %y: tensor<3xf32>, %i: tensor<2xi32>) -> (tensor<2x3xi1>, tensor<2xi1>) {
  %0 = bnn.compare %x, %y {kind = "eq"} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  %1 = bnn.compare %i, %i {kind = "eq"} : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi1>
  func.return %0, %1 : tensor<2x3xi1>, tensor<2xi1>
}

// CHECK-LABEL: func.func @ne(
// CHECK: arith.cmpf une
// CHECK: arith.cmpi ne,
func.func @ne(%x: tensor<2x3xf32>, %y: tensor<3xf32>, %i: tensor<2xi32>) -> (tensor<2x3xi1>, tensor<2xi1>) {
  %0 = bnn.compare %x, %y {kind = "ne"} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  %1 = bnn.compare %i, %i {kind = "ne"} : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi1>
  func.return %0, %1 : tensor<2x3xi1>, tensor<2xi1>
}

// (a b + 2^(shift - 1)) >> shift in 64 bits.
// CHECK-LABEL: func.func @mul_shift
// CHECK-COUNT-2: arith.extsi {{.+}} : i32 to i64
// CHECK: arith.muli
// CHECK: arith.constant 32768 : i64
// CHECK: arith.addi
// CHECK: arith.shrsi
// CHECK: arith.trunci {{.+}} : i64 to i32
func.func @mul_shift(%x: tensor<2x3xi32>, %y: tensor<3xi32>) -> tensor<2x3xi32> {
  %0 = bnn.mul_shift %x, %y {shift = 16 : i64} : (tensor<2x3xi32>, tensor<3xi32>) -> tensor<2x3xi32>
  func.return %0 : tensor<2x3xi32>
}
