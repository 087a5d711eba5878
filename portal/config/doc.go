// Package config knows the policy file: what accounts, sites, resources, groups, policies and so on
// there are. It parses and validates the file, says what differs between two of them, and answers
// the question the file exists for: may this actor, from there, use that resource now, and until
// when?
//
// It is not a place for state: devices, tokens and authorizations are in portal/store, which knows
// the things of this package by their ids. It does no I/O either: whoever calls Parse has read the
// file, and notices that it has changed.
//
// # The language
//
// One table (language.go) says which keys there are, of what kind, how long and how many. Parse
// checks files against it, and Schema publishes it as a JSON Schema, so that the two cannot
// disagree. What a schema cannot say, because it relates one place of the file to another, is
// checked afterwards (read.go). A file is YAML or, if it begins with a brace, JSON; anchors,
// aliases, tags and merge keys are refused. All problems are reported at once, each with line,
// column and a way out.
//
// # Ids
//
// Everything has an id that is derived from its name and kind within the account (UUID version 5),
// so that it is the same wherever the file is read. To rename a thing without making it another
// one, give it the old id explicitly; firelane portal check prints it.
//
// # Concurrency and memory
//
// A File is never written after Parse, so it can be read from anywhere; a reload makes another one.
// All functions are pure functions of their arguments. The limits are beside the language.
package config
