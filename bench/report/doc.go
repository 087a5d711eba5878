// Package report turns the samples of a benchmark run into figures: medians and spread by row
// and gateway, ratios to the rivals and whether the project's floors are met, the change
// against a recorded run, a Markdown document, an SVG chart and the JSON that a later run
// compares itself with.
//
// It measures nothing; everything here is a function of a Run.
package report
