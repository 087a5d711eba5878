// Package dns knows names: what a DNS resource's address pattern matches, and which of two
// patterns is the more specific.
//
// It is not a resolver and speaks no DNS message. All functions are pure functions of their
// arguments and allocate at most their result.
//
// Who calls it: control, for the names that clients announce and for what they may resolve.
//
// Trust: patterns come from the portal, names from clients; either is bounded by the length of a
// domain name and refused beyond it. Matching takes time proportional to the product of both
// lengths at worst, whatever they hold.
//
// Concurrency: a Pattern is an immutable value; everything may be called from anywhere at the same
// time.
package dns
