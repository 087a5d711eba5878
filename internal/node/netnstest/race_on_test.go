//go:build race

package netnstest

// raceFlag builds the program under test like the test.
const raceFlag = "-race=true"
