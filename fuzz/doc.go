// Package fuzz holds the native fuzz targets of the module, one file for each subject, and their
// committed corpora under testdata/fuzz. It has no code of its own besides tests.
//
// A target drives exported functions with bytes that an attacker could send and states what must
// hold whatever they are; where another implementation exists, it is the judge. Plain go test
// replays the seeds and the corpora; go test -fuzz searches. An input that once broke something
// is committed to the corpus under a name that says what it is.
package fuzz
