// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p recognize-neurons,fixed-membranes{kind=int16} --split-input-file | filecheck %s

// Sums of integers stay integers: their scale is the unit of the membrane, over a power of two.

// CHECK: func.func @main(%i: tensor<1x2xi32>, %m: tensor<1x2xi16>) -> (tensor<1x2xf32>, tensor<1x2xi16>)
// CHECK: bnn.max %i,
// CHECK: "bnn.neuron"
// CHECK: bnn.mul_shift %{{.+}}, %{{.+}} {shift = 16 : i64}
// CHECK: bnn.constant dense<4> : tensor<1xi32>
// CHECK: bnn.compare
func.func @main(%i: tensor<1x2xi32>, %m: tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>) attributes {bnn.inputs = ["i", "m"], bnn.outputs = ["y", "n"], bnn.states = [["m", "n"]]} {
  %quarter = bnn.constant dense<2.5e-01> : tensor<f32> : tensor<f32>
  %k = bnn.constant dense<7.5e-01> : tensor<f32> : tensor<f32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %f = bnn.cast %i : (tensor<1x2xi32>) -> tensor<1x2xf32>
  %x = bnn.mul %f, %quarter : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %l = bnn.mul %m, %k : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %u = bnn.add %l, %x : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %b = bnn.compare %u, %one {kind = "gt"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  %s = bnn.cast %b : (tensor<1x2xi1>) -> tensor<1x2xf32>
  %n = bnn.sub %u, %s : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  func.return %s, %n : tensor<1x2xf32>, tensor<1x2xf32>
}

// -----

// A membrane that is squared is no leaky one: it stays.

// CHECK: func.func @main(%x: tensor<1x2xf32>, %m: tensor<1x2xf32>) -> tensor<1x2xf32>
// CHECK-NOT: mul_shift
func.func @main(%x: tensor<1x2xf32>, %m: tensor<1x2xf32>) -> (tensor<1x2xf32>) attributes {bnn.inputs = ["x", "m"], bnn.outputs = ["n"], bnn.states = [["m", "n"]]} {
  %q = bnn.mul %m, %m : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %n = bnn.add %q, %x : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  func.return %n : tensor<1x2xf32>
}

// -----

// 64 inputs at 2^-9 reach 2^15, one more than a membrane holds; 63 do not.

// CHECK: bnn.dense
// CHECK: bnn.max
// CHECK: bnn.min
// CHECK: "bnn.neuron"
func.func @main(%i: tensor<1x64x!bnn.bipolar>, %m: tensor<1x1xf32>) -> (tensor<1x1xf32>, tensor<1x1xf32>) attributes {bnn.inputs = ["i", "m"], bnn.outputs = ["y", "n"], bnn.states = [["m", "n"]]} {
  %k = bnn.constant dense<7.5e-01> : tensor<f32> : tensor<f32>
  %level = bnn.constant dense<8.0> : tensor<f32> : tensor<f32>
  %w = bnn.constant dense<1> : tensor<1x64xi8> : tensor<1x64x!bnn.bipolar>
  %d = bnn.dense %i, %w : (tensor<1x64x!bnn.bipolar>, tensor<1x64x!bnn.bipolar>) -> tensor<1x1xi32>
  %x = bnn.cast %d : (tensor<1x1xi32>) -> tensor<1x1xf32>
  %l = bnn.mul %m, %k : (tensor<1x1xf32>, tensor<f32>) -> tensor<1x1xf32>
  %u = bnn.add %l, %x : (tensor<1x1xf32>, tensor<1x1xf32>) -> tensor<1x1xf32>
  %b = bnn.compare %u, %level {kind = "gt"} : (tensor<1x1xf32>, tensor<f32>) -> tensor<1x1xi1>
  %s = bnn.cast %b : (tensor<1x1xi1>) -> tensor<1x1xf32>
  %r = bnn.mul %s, %level : (tensor<1x1xf32>, tensor<f32>) -> tensor<1x1xf32>
  %n = bnn.sub %u, %r : (tensor<1x1xf32>, tensor<1x1xf32>) -> tensor<1x1xf32>
  func.return %s, %n : tensor<1x1xf32>, tensor<1x1xf32>
}

// -----

// CHECK: bnn.dense
// CHECK-NOT: bnn.max
// CHECK: "bnn.neuron"
func.func @main(%i: tensor<1x63x!bnn.bipolar>, %m: tensor<1x1xf32>) -> (tensor<1x1xf32>, tensor<1x1xf32>) attributes {bnn.inputs = ["i", "m"], bnn.outputs = ["y", "n"], bnn.states = [["m", "n"]]} {
  %k = bnn.constant dense<7.5e-01> : tensor<f32> : tensor<f32>
  %level = bnn.constant dense<8.0> : tensor<f32> : tensor<f32>
  %w = bnn.constant dense<1> : tensor<1x63xi8> : tensor<1x63x!bnn.bipolar>
  %d = bnn.dense %i, %w : (tensor<1x63x!bnn.bipolar>, tensor<1x63x!bnn.bipolar>) -> tensor<1x1xi32>
  %x = bnn.cast %d : (tensor<1x1xi32>) -> tensor<1x1xf32>
  %l = bnn.mul %m, %k : (tensor<1x1xf32>, tensor<f32>) -> tensor<1x1xf32>
  %u = bnn.add %l, %x : (tensor<1x1xf32>, tensor<1x1xf32>) -> tensor<1x1xf32>
  %b = bnn.compare %u, %level {kind = "gt"} : (tensor<1x1xf32>, tensor<f32>) -> tensor<1x1xi1>
  %s = bnn.cast %b : (tensor<1x1xi1>) -> tensor<1x1xf32>
  %r = bnn.mul %s, %level : (tensor<1x1xf32>, tensor<f32>) -> tensor<1x1xf32>
  %n = bnn.sub %u, %r : (tensor<1x1xf32>, tensor<1x1xf32>) -> tensor<1x1xf32>
  func.return %s, %n : tensor<1x1xf32>, tensor<1x1xf32>
}

// -----

// So does the lowest number of another membrane whose sign is turned.

// CHECK: bnn.cast %i
// CHECK: bnn.max
// CHECK: bnn.min
// CHECK: "bnn.neuron"
func.func @main(%i: tensor<1x1xi16>, %m: tensor<1x1xf32>) -> (tensor<1x1xf32>, tensor<1x1xf32>) attributes {bnn.inputs = ["i", "m"], bnn.outputs = ["y", "n"], bnn.states = [["m", "n"]]} {
  %k = bnn.constant dense<7.5e-01> : tensor<f32> : tensor<f32>
  %level = bnn.constant dense<1.024e+03> : tensor<f32> : tensor<f32>
  %scale = bnn.constant dense<-2.5e-01> : tensor<f32> : tensor<f32>
  %j = bnn.cast %i : (tensor<1x1xi16>) -> tensor<1x1xi32>
  %f = bnn.cast %j : (tensor<1x1xi32>) -> tensor<1x1xf32>
  %x = bnn.mul %f, %scale : (tensor<1x1xf32>, tensor<f32>) -> tensor<1x1xf32>
  %l = bnn.mul %m, %k : (tensor<1x1xf32>, tensor<f32>) -> tensor<1x1xf32>
  %u = bnn.add %l, %x : (tensor<1x1xf32>, tensor<1x1xf32>) -> tensor<1x1xf32>
  %b = bnn.compare %u, %level {kind = "gt"} : (tensor<1x1xf32>, tensor<f32>) -> tensor<1x1xi1>
  %s = bnn.cast %b : (tensor<1x1xi1>) -> tensor<1x1xf32>
  %r = bnn.mul %s, %level : (tensor<1x1xf32>, tensor<f32>) -> tensor<1x1xf32>
  %n = bnn.sub %u, %r : (tensor<1x1xf32>, tensor<1x1xf32>) -> tensor<1x1xf32>
  func.return %s, %n : tensor<1x1xf32>, tensor<1x1xf32>
}

// -----

// CHECK: bnn.cast %i
// CHECK-NOT: bnn.max
// CHECK: "bnn.neuron"
func.func @main(%i: tensor<1x1xi16>, %m: tensor<1x1xf32>) -> (tensor<1x1xf32>, tensor<1x1xf32>) attributes {bnn.inputs = ["i", "m"], bnn.outputs = ["y", "n"], bnn.states = [["m", "n"]]} {
  %k = bnn.constant dense<7.5e-01> : tensor<f32> : tensor<f32>
  %level = bnn.constant dense<1.024e+03> : tensor<f32> : tensor<f32>
  %scale = bnn.constant dense<2.5e-01> : tensor<f32> : tensor<f32>
  %j = bnn.cast %i : (tensor<1x1xi16>) -> tensor<1x1xi32>
  %f = bnn.cast %j : (tensor<1x1xi32>) -> tensor<1x1xf32>
  %x = bnn.mul %f, %scale : (tensor<1x1xf32>, tensor<f32>) -> tensor<1x1xf32>
  %l = bnn.mul %m, %k : (tensor<1x1xf32>, tensor<f32>) -> tensor<1x1xf32>
  %u = bnn.add %l, %x : (tensor<1x1xf32>, tensor<1x1xf32>) -> tensor<1x1xf32>
  %b = bnn.compare %u, %level {kind = "gt"} : (tensor<1x1xf32>, tensor<f32>) -> tensor<1x1xi1>
  %s = bnn.cast %b : (tensor<1x1xi1>) -> tensor<1x1xf32>
  %r = bnn.mul %s, %level : (tensor<1x1xf32>, tensor<f32>) -> tensor<1x1xf32>
  %n = bnn.sub %u, %r : (tensor<1x1xf32>, tensor<1x1xf32>) -> tensor<1x1xf32>
  func.return %s, %n : tensor<1x1xf32>, tensor<1x1xf32>
}
