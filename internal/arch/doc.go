// Package arch holds the tests that keep the layout true: which package may import which
// (imports_test.go), and what the pure packages may not touch (pure_test.go). It has no code of
// its own.
//
// A new package starts with a line in the table of imports; a package that is not in the table
// fails the test.
package arch
