// Command firelane is the whole product in one binary; each subcommand is one part.
//
// Linked or copied under the name firelane-wg it is `firelane wg`, so that it can stand where
// wireguard-go is expected:
//
//	WG_QUICK_USERSPACE_IMPLEMENTATION=firelane-wg wg-quick up wg0
//
// A part that cannot start prints exactly one line to standard error, which says what is wrong
// and what to do about it. Exit codes: 0 done, 1 the machine refused, 2 the command line or
// the environment makes no sense.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(os.Args, os.Stderr))
}

// Exit codes of every subcommand.
const (
	exitFailed = 1 // could not be done
	exitUsage  = 2 // not understood
)

// run carries out one command line and returns the exit code.
func run(args []string, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(commandLine(args))
	c, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	var failed *failure
	if errors.As(err, &failed) {
		if !failed.told {
			fmt.Fprintln(stderr, "firelane:", oneLine(err))
		}
		return exitFailed
	}
	fmt.Fprintf(stderr, "firelane: %s; see %q\n", oneLine(err), c.CommandPath()+" --help")
	return exitUsage
}

// wgName is the name under which the program is `firelane wg`.
const wgName = "firelane-wg"

// commandLine returns the arguments for the root command.
func commandLine(args []string) []string {
	if len(args) > 0 && filepath.Base(args[0]) == wgName {
		return append([]string{"wg"}, args[1:]...)
	}
	return args[1:]
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:                "firelane",
		Short:              "The data plane of a zero-trust network",
		Version:            version(),
		SilenceErrors:      true,
		SilenceUsage:       true,
		DisableSuggestions: true,
		CompletionOptions:  cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetVersionTemplate("firelane {{.Version}}\n")
	root.AddCommand(newWG(), newRelay(), newPortal())
	return root
}

// failure is an error of the machine, not of the command line.
type failure struct {
	err  error
	told bool // somebody else has printed it
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// oneLine returns err's text on a single line.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
