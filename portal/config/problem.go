package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	File string
	// Line and Column count from 1; columns count bytes in JSON and characters in YAML.
	Line, Column int
	// What is wrong, and what to do about it.
	What, Fix string
}

// String returns the problem in one line, as file:line:column: what; fix.
func (p Problem) String() string {
	return fmt.Sprintf("%s:%d:%d: %s; %s", p.File, p.Line, p.Column, p.What, p.Fix)
}

// Problems are all that is wrong with a file, in the order of lines. As an error it has one line
// for each.
type Problems []Problem

// maxProblems bounds what Parse reports: nobody reads more before mending the first.
const maxProblems = 100

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// sorted puts the problems in order and keeps the first maxProblems.
func (p Problems) sorted() Problems {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column, strings.Compare(a.What, b.What))
	})
	p = slices.Compact(p)
	return p[:min(len(p), maxProblems)]
}
