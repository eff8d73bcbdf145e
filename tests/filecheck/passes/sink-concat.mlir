// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p sink-concat | filecheck %s

// A layer of a dense block: signs of all channels are made where the channels are.
// CHECK-LABEL: func.func @dense
func.func @dense(%x: tensor<1x2x2x32xf32>) -> (tensor<1x2x2x64x!bnn.bipolar>, tensor<1x2x2x64xf32>) {
  %a = bnn.relu %x : (tensor<1x2x2x32xf32>) -> tensor<1x2x2x32xf32>
  %b = bnn.neg %x : (tensor<1x2x2x32xf32>) -> tensor<1x2x2x32xf32>
  %c = bnn.concat %a, %b {axis = 3 : i64} : (tensor<1x2x2x32xf32>, tensor<1x2x2x32xf32>) -> tensor<1x2x2x64xf32>
  %two = bnn.constant dense<2.0> : tensor<f32> : tensor<f32>
  %m = bnn.mul %c, %two : (tensor<1x2x2x64xf32>, tensor<f32>) -> tensor<1x2x2x64xf32>
  %s = bnn.binarize %m {zero = 1 : i64} : (tensor<1x2x2x64xf32>) -> tensor<1x2x2x64x!bnn.bipolar>
  // CHECK-DAG: %[[A:.+]] = bnn.relu %x
  // CHECK-DAG: %[[B:.+]] = bnn.neg %x
  // CHECK-DAG: %[[MA:.+]] = bnn.mul %[[A]], %[[TWO:.+]] : (tensor<1x2x2x32xf32>
  // CHECK-DAG: %[[MB:.+]] = bnn.mul %[[B]], %[[TWO]] : (tensor<1x2x2x32xf32>
  // CHECK-DAG: %[[C:.+]] = bnn.concat %[[A]], %[[B]]
  // CHECK-DAG: %[[SA:.+]] = bnn.binarize %[[MA]]
  // CHECK-DAG: %[[SB:.+]] = bnn.binarize %[[MB]]
  // CHECK-DAG: %[[S:.+]] = bnn.concat %[[SA]], %[[SB]]
  // CHECK: func.return %[[S]], %[[C]]
  func.return %s, %c : tensor<1x2x2x64x!bnn.bipolar>, tensor<1x2x2x64xf32>
}

// Numbers of each channel go with the channels.
// CHECK-LABEL: func.func @channels
func.func @channels(%x: tensor<1x3xf32>) -> tensor<1x4xf32> {
  %a = bnn.relu %x : (tensor<1x3xf32>) -> tensor<1x3xf32>
  %one = bnn.constant dense<9.0> : tensor<1x1xf32> : tensor<1x1xf32>
  %c = bnn.concat %a, %one {axis = 1 : i64} : (tensor<1x3xf32>, tensor<1x1xf32>) -> tensor<1x4xf32>
  %n = bnn.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32> : tensor<4xf32>
  %s = bnn.add %c, %n : (tensor<1x4xf32>, tensor<4xf32>) -> tensor<1x4xf32>
  // CHECK-DAG: %[[N:.+]] = bnn.constant dense<[1.000000e+00, 2.000000e+00, 3.000000e+00]>
  // CHECK-DAG: %[[L:.+]] = bnn.constant dense<4.000000e+00> : tensor<1xf32>
  // CHECK-DAG: bnn.add %{{.*}}, %[[N]]
  // CHECK-DAG: bnn.add %{{.*}}, %[[L]]
  // CHECK: bnn.concat
  func.return %s : tensor<1x4xf32>
}

// CHECK-LABEL: func.func @thresholds
func.func @thresholds(%x: tensor<1x33xi32>) -> tensor<1x34x!bnn.bipolar> {
  %a = bnn.add %x, %x : (tensor<1x33xi32>, tensor<1x33xi32>) -> tensor<1x33xi32>
  %p = bnn.pad %a {low = array<i64: 0, 0>, high = array<i64: 0, -1>, value = 0.0 : f32} : (tensor<1x33xi32>) -> tensor<1x32xi32>
  %q = bnn.pad %a {low = array<i64: 0, -31>, high = array<i64: 0, 0>, value = 0.0 : f32} : (tensor<1x33xi32>) -> tensor<1x2xi32>
  %r = bnn.add %p, %p : (tensor<1x32xi32>, tensor<1x32xi32>) -> tensor<1x32xi32>
  %c = bnn.concat %r, %q {axis = 1 : i64} : (tensor<1x32xi32>, tensor<1x2xi32>) -> tensor<1x34xi32>
  %t = bnn.threshold %c {thresholds = dense<[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 6]> : tensor<34xi32>, signs = dense<1> : tensor<34xi8>} : (tensor<1x34xi32>) -> tensor<1x34x!bnn.bipolar>
  // CHECK: bnn.threshold %{{.*}} {thresholds = dense<0> : tensor<32xi32>, signs = dense<1> : tensor<32xi8>}
  // CHECK: bnn.threshold %{{.*}} {thresholds = dense<[5, 6]> : tensor<2xi32>, signs = dense<1> : tensor<2xi8>}
  // CHECK: bnn.concat
  func.return %t : tensor<1x34x!bnn.bipolar>
}

// An improvement of the last channels: what is cut out of a concatenation is an input of it.
// CHECK-LABEL: func.func @improvement
func.func @improvement(%x: tensor<1x4xf32>, %y: tensor<1x2xf32>, %z: tensor<1x2xf32>) -> tensor<1x6xf32> {
  %c = bnn.concat %x, %y {axis = 1 : i64} : (tensor<1x4xf32>, tensor<1x2xf32>) -> tensor<1x6xf32>
  %kept = bnn.pad %c {low = array<i64: 0, 0>, high = array<i64: 0, -2>, value = 0.0 : f32} : (tensor<1x6xf32>) -> tensor<1x4xf32>
  %last = bnn.pad %c {low = array<i64: 0, -4>, high = array<i64: 0, 0>, value = 0.0 : f32} : (tensor<1x6xf32>) -> tensor<1x2xf32>
  %better = bnn.add %last, %z : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %all = bnn.concat %kept, %better {axis = 1 : i64} : (tensor<1x4xf32>, tensor<1x2xf32>) -> tensor<1x6xf32>
  // CHECK-NEXT: %[[B:.+]] = bnn.add %y, %z
  // CHECK-NEXT: %[[C:.+]] = bnn.concat %x, %[[B]]
  // CHECK-NEXT: func.return %[[C]]
  func.return %all : tensor<1x6xf32>
}

// Growth step by step is one concatenation; a cut through an input is a cut of that input.
// CHECK-LABEL: func.func @nested
func.func @nested(%x: tensor<1x4xf32>, %y: tensor<1x2xf32>) -> (tensor<1x8xf32>, tensor<1x3xf32>) {
  %c = bnn.concat %x, %y {axis = 1 : i64} : (tensor<1x4xf32>, tensor<1x2xf32>) -> tensor<1x6xf32>
  %d = bnn.concat %c, %y {axis = 1 : i64} : (tensor<1x6xf32>, tensor<1x2xf32>) -> tensor<1x8xf32>
  %e = bnn.pad %d {low = array<i64: 0, -3>, high = array<i64: 0, -2>, value = 0.0 : f32} : (tensor<1x8xf32>) -> tensor<1x3xf32>
  // CHECK-NEXT: %[[D:.+]] = bnn.concat %x, %y, %y
  // CHECK-NEXT: %[[P:.+]] = bnn.pad %x {low = array<i64: 0, -3>, high = array<i64: 0, 0>
  // CHECK-NEXT: %[[E:.+]] = bnn.concat %[[P]], %y
  // CHECK-NEXT: func.return %[[D]], %[[E]]
  func.return %d, %e : tensor<1x8xf32>, tensor<1x3xf32>
}

// Two halves of one value, joined again, are that value.
// CHECK-LABEL: func.func @halves
func.func @halves(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %a = bnn.pad %x {low = array<i64: 0, 0>, high = array<i64: 0, -2>, value = 0.0 : f32} : (tensor<1x4xf32>) -> tensor<1x2xf32>
  %b = bnn.pad %x {low = array<i64: 0, -2>, high = array<i64: 0, 0>, value = 0.0 : f32} : (tensor<1x4xf32>) -> tensor<1x2xf32>
  %c = bnn.concat %a, %b {axis = 1 : i64} : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x4xf32>
  // CHECK-NEXT: func.return %x
  func.return %c : tensor<1x4xf32>
}

// CHECK-LABEL: func.func @pool
func.func @pool(%x: tensor<1x2x2x4xf32>) -> tensor<1x1x1x8xf32> {
  %a = bnn.relu %x : (tensor<1x2x2x4xf32>) -> tensor<1x2x2x4xf32>
  %b = bnn.neg %x : (tensor<1x2x2x4xf32>) -> tensor<1x2x2x4xf32>
  %c = bnn.concat %a, %b {axis = 3 : i64} : (tensor<1x2x2x4xf32>, tensor<1x2x2x4xf32>) -> tensor<1x2x2x8xf32>
  %p = bnn.max_pool %c {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x2x2x8xf32>) -> tensor<1x1x1x8xf32>
  // CHECK: %[[A:.+]] = bnn.max_pool
  // CHECK: %[[B:.+]] = bnn.max_pool
  // CHECK: bnn.concat %[[A]], %[[B]]
  func.return %p : tensor<1x1x1x8xf32>
}

// Near miss: half a word of signs cannot be stored by itself. What has to be stored for it stays, too.
// CHECK-LABEL: func.func @half_a_word
func.func @half_a_word(%x: tensor<1x16xf32>) -> tensor<1x32x!bnn.bipolar> {
  %a = bnn.relu %x : (tensor<1x16xf32>) -> tensor<1x16xf32>
  %c = bnn.concat %a, %x {axis = 1 : i64} : (tensor<1x16xf32>, tensor<1x16xf32>) -> tensor<1x32xf32>
  %n = bnn.neg %c : (tensor<1x32xf32>) -> tensor<1x32xf32>
  %s = bnn.binarize %n {zero = 1 : i64} : (tensor<1x32xf32>) -> tensor<1x32x!bnn.bipolar>
  // CHECK: %[[C:.+]] = bnn.concat
  // CHECK-NEXT: %[[N:.+]] = bnn.neg %[[C]]
  // CHECK-NEXT: bnn.binarize %[[N]]
  func.return %s : tensor<1x32x!bnn.bipolar>
}

// Near miss: the other operand is not cut.
// CHECK-LABEL: func.func @residual
func.func @residual(%x: tensor<1x2xf32>, %z: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %a = bnn.relu %x : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %c = bnn.concat %a, %x {axis = 1 : i64} : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x4xf32>
  %r = bnn.relu %c : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %s = bnn.add %r, %z : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK: %[[C:.+]] = bnn.concat
  // CHECK-NEXT: %[[R:.+]] = bnn.relu %[[C]]
  // CHECK-NEXT: bnn.add %[[R]], %z
  func.return %s : tensor<1x4xf32>
}

// Near miss: two concatenations that are cut at different channels.
// CHECK-LABEL: func.func @cut_otherwise
func.func @cut_otherwise(%x: tensor<1x1xf32>, %y: tensor<1x2xf32>) -> tensor<1x3xf32> {
  %a = bnn.relu %x : (tensor<1x1xf32>) -> tensor<1x1xf32>
  %c = bnn.concat %a, %y {axis = 1 : i64} : (tensor<1x1xf32>, tensor<1x2xf32>) -> tensor<1x3xf32>
  %d = bnn.concat %y, %a {axis = 1 : i64} : (tensor<1x2xf32>, tensor<1x1xf32>) -> tensor<1x3xf32>
  %s = bnn.add %c, %d : (tensor<1x3xf32>, tensor<1x3xf32>) -> tensor<1x3xf32>
  // CHECK: bnn.add %{{.*}} : (tensor<1x3xf32>, tensor<1x3xf32>)
  func.return %s : tensor<1x3xf32>
}

// Near miss: along another dimension channels are not cut.
// CHECK-LABEL: func.func @rows
func.func @rows(%x: tensor<2x4xf32>) -> tensor<4x4xf32> {
  %a = bnn.relu %x : (tensor<2x4xf32>) -> tensor<2x4xf32>
  %c = bnn.concat %a, %x {axis = 0 : i64} : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<4x4xf32>
  %s = bnn.neg %c : (tensor<4x4xf32>) -> tensor<4x4xf32>
  // CHECK: bnn.neg %{{.*}} : (tensor<4x4xf32>)
  func.return %s : tensor<4x4xf32>
}

// Near miss: nothing computes the parts, so nothing takes in what follows.
// CHECK-LABEL: func.func @inputs
func.func @inputs(%x: tensor<1x2xf32>, %y: tensor<1x2xf32>) -> tensor<1x4xf32> {
  %c = bnn.concat %x, %y {axis = 1 : i64} : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x4xf32>
  %s = bnn.neg %c : (tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK-NEXT: bnn.concat
  // CHECK-NEXT: bnn.neg
  func.return %s : tensor<1x4xf32>
}

// Near miss: crops that overlap, and such that leave a gap.
// CHECK-LABEL: func.func @no_neighbours
func.func @no_neighbours(%x: tensor<1x4xf32>) -> tensor<1x5xf32> {
  %a = bnn.pad %x {low = array<i64: 0, 0>, high = array<i64: 0, -1>, value = 0.0 : f32} : (tensor<1x4xf32>) -> tensor<1x3xf32>
  %b = bnn.pad %x {low = array<i64: 0, -2>, high = array<i64: 0, 0>, value = 0.0 : f32} : (tensor<1x4xf32>) -> tensor<1x2xf32>
  %c = bnn.concat %a, %b {axis = 1 : i64} : (tensor<1x3xf32>, tensor<1x2xf32>) -> tensor<1x5xf32>
  // CHECK: bnn.concat %{{.*}}, %{{.*}} {axis = 1 : i64} : (tensor<1x3xf32>, tensor<1x2xf32>)
  func.return %c : tensor<1x5xf32>
}

// Near miss: another reader wants the whole image, so it is stored anyway.
// CHECK-LABEL: func.func @pool_and_image
func.func @pool_and_image(%x: tensor<1x2x2x4xf32>) -> (tensor<1x1x1x8xf32>, tensor<1x2x2x8xf32>) {
  %a = bnn.relu %x : (tensor<1x2x2x4xf32>) -> tensor<1x2x2x4xf32>
  %b = bnn.neg %x : (tensor<1x2x2x4xf32>) -> tensor<1x2x2x4xf32>
  %c = bnn.concat %a, %b {axis = 3 : i64} : (tensor<1x2x2x4xf32>, tensor<1x2x2x4xf32>) -> tensor<1x2x2x8xf32>
  %p = bnn.max_pool %c {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x2x2x8xf32>) -> tensor<1x1x1x8xf32>
  // CHECK: %[[C:.+]] = bnn.concat
  // CHECK-NEXT: bnn.max_pool %[[C]]
  func.return %p, %c : tensor<1x1x1x8xf32>, tensor<1x2x2x8xf32>
}

// Signs of a part are a part of the signs that the layer before makes of everything.
// CHECK-LABEL: func.func @signs_of_a_part
func.func @signs_of_a_part(%x: tensor<1x64xf32>) -> (tensor<1x32x!bnn.bipolar>, tensor<1x64xf32>) {
  %a = bnn.relu %x : (tensor<1x64xf32>) -> tensor<1x64xf32>
  %p = bnn.pad %a {low = array<i64: 0, -32>, high = array<i64: 0, 0>, value = 0.0 : f32} : (tensor<1x64xf32>) -> tensor<1x32xf32>
  %two = bnn.constant dense<2.0> : tensor<32xf32> : tensor<32xf32>
  %m = bnn.add %p, %two : (tensor<1x32xf32>, tensor<32xf32>) -> tensor<1x32xf32>
  %s = bnn.binarize %m {zero = 1 : i64} : (tensor<1x32xf32>) -> tensor<1x32x!bnn.bipolar>
  // CHECK: %[[A:.+]] = bnn.relu %x
  // CHECK: %[[C:.+]] = bnn.constant dense<[1.000000e+00, {{.*}}, 1.000000e+00, 2.000000e+00, {{.*}} 2.000000e+00]> : tensor<64xf32>
  // CHECK: %[[M:.+]] = bnn.add %[[A]], %[[C]]
  // CHECK: %[[S:.+]] = bnn.binarize %[[M]] {zero = 1 : i64} : (tensor<1x64xf32>)
  // CHECK: bnn.pad %[[S]] {low = array<i64: 0, -32>
  func.return %s, %a : tensor<1x32x!bnn.bipolar>, tensor<1x64xf32>
}

// Near miss: the part is read as numbers, too, and would have to be stored for it.
// CHECK-LABEL: func.func @numbers_of_a_part
func.func @numbers_of_a_part(%x: tensor<1x64xf32>) -> (tensor<1x32x!bnn.bipolar>, tensor<1x32xf32>) {
  %a = bnn.relu %x : (tensor<1x64xf32>) -> tensor<1x64xf32>
  %p = bnn.pad %a {low = array<i64: 0, -32>, high = array<i64: 0, 0>, value = 0.0 : f32} : (tensor<1x64xf32>) -> tensor<1x32xf32>
  %m = bnn.neg %p : (tensor<1x32xf32>) -> tensor<1x32xf32>
  %s = bnn.binarize %m {zero = 1 : i64} : (tensor<1x32xf32>) -> tensor<1x32x!bnn.bipolar>
  // CHECK: bnn.pad
  // CHECK-NEXT: bnn.neg
  // CHECK-NEXT: bnn.binarize
  func.return %s, %m : tensor<1x32x!bnn.bipolar>, tensor<1x32xf32>
}

// Near miss: the part begins in the middle of a word.
// CHECK-LABEL: func.func @part_of_a_word
func.func @part_of_a_word(%x: tensor<1x64xf32>) -> tensor<1x32x!bnn.bipolar> {
  %a = bnn.relu %x : (tensor<1x64xf32>) -> tensor<1x64xf32>
  %p = bnn.pad %a {low = array<i64: 0, -16>, high = array<i64: 0, -16>, value = 0.0 : f32} : (tensor<1x64xf32>) -> tensor<1x32xf32>
  %s = bnn.binarize %p {zero = 1 : i64} : (tensor<1x32xf32>) -> tensor<1x32x!bnn.bipolar>
  // CHECK: bnn.pad
  // CHECK-NEXT: bnn.binarize
  func.return %s : tensor<1x32x!bnn.bipolar>
}
