// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p suggest-states --split-input-file | filecheck %s

// A leak, a comparison and a subtraction lie between an input and an output.

// CHECK: func.func @main
// CHECK-SAME: --state m=n
func.func @main(%x: tensor<1x2xf32>, %m: tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>) attributes {bnn.inputs = ["x", "m"], bnn.outputs = ["y", "n"]} {
  %k = bnn.constant dense<5.0e-01> : tensor<f32> : tensor<f32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %w = bnn.constant dense<[[1.0, 0.5], [0.5, 1.0]]> : tensor<2x2xf32> : tensor<2x2xf32>
  %d = bnn.dense %x, %w : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  %l = bnn.mul %m, %k : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %u = bnn.add %l, %d : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %b = bnn.compare %u, %one {kind = "gt"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  %s = bnn.cast %b : (tensor<1x2xi1>) -> tensor<1x2xf32>
  %n = bnn.sub %u, %s : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  func.return %s, %n : tensor<1x2xf32>, tensor<1x2xf32>
}

// -----

// Nothing fires: a shortcut.

// CHECK: func.func @main
// CHECK-NOT: --state
func.func @main(%x: tensor<1x2xf32>, %m: tensor<1x2xf32>) -> (tensor<1x2xf32>) attributes {bnn.inputs = ["x", "m"], bnn.outputs = ["n"]} {
  %w = bnn.constant dense<[[1.0, 0.5], [0.5, 1.0]]> : tensor<2x2xf32> : tensor<2x2xf32>
  %d = bnn.dense %x, %w : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  %n = bnn.add %d, %m : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  func.return %n : tensor<1x2xf32>
}

// -----

// A state already.

// CHECK: func.func @main
// CHECK-NOT: --state
func.func @main(%x: tensor<1x2xf32>, %m: tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>) attributes {bnn.inputs = ["x", "m"], bnn.outputs = ["y", "n"], bnn.states = [["m", "n"]]} {
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %u = bnn.add %m, %x : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %b = bnn.compare %u, %one {kind = "gt"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  %s = bnn.cast %b : (tensor<1x2xi1>) -> tensor<1x2xf32>
  %n = bnn.sub %u, %s : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  func.return %s, %n : tensor<1x2xf32>, tensor<1x2xf32>
}

// -----

// A current and a membrane: the current leads to both, the membrane to one.

// CHECK: func.func @main
// CHECK-SAME: --state c=d --state m=n"
func.func @main(%x: tensor<1x3xf32>, %m: tensor<1x2xf32>, %c: tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>) attributes {bnn.inputs = ["x", "m", "c"], bnn.outputs = ["y", "n", "d"]} {
  %k = bnn.constant dense<5.0e-01> : tensor<f32> : tensor<f32>
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %w = bnn.constant dense<[[1.0, 0.5, 2.0], [0.5, 1.0, 2.0]]> : tensor<2x3xf32> : tensor<2x3xf32>
  %i = bnn.dense %x, %w : (tensor<1x3xf32>, tensor<2x3xf32>) -> tensor<1x2xf32>
  %h = bnn.mul %c, %k : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %d = bnn.add %h, %i : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %l = bnn.mul %m, %k : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %u = bnn.add %l, %d : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %b = bnn.compare %u, %one {kind = "gt"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  %s = bnn.cast %b : (tensor<1x2xi1>) -> tensor<1x2xf32>
  %n = bnn.sub %u, %s : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  func.return %s, %n, %d : tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>
}

// -----

// Nothing tells which input is the membrane.

// CHECK: func.func @main
// CHECK-NOT: --state
func.func @main(%x: tensor<1x2xf32>, %m: tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>) attributes {bnn.inputs = ["x", "m"], bnn.outputs = ["y", "n"]} {
  %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
  %u = bnn.add %m, %x : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %b = bnn.compare %u, %one {kind = "gt"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  %s = bnn.cast %b : (tensor<1x2xi1>) -> tensor<1x2xf32>
  %n = bnn.sub %u, %s : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  func.return %s, %n : tensor<1x2xf32>, tensor<1x2xf32>
}
