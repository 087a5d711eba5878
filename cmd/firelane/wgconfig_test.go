package main

import (
	"log/slog"
	"os"
	"slices"
	"testing"
)

func TestParseWG(t *testing.T) {
	env := func(pairs map[string]string) func(string) (string, bool) {
		return func(name string) (string, bool) { v, ok := pairs[name]; return v, ok }
	}
	for _, c := range []struct {
		name  string
		env   map[string]string
		flags wgFlags
		ok    func(wgConfig) bool
	}{
		{"nothing given", nil, wgFlags{}, func(c wgConfig) bool {
			return !c.foreground && c.queues >= 1 && c.tunFD == -1 && c.uapiFD == -1 && c.readyFD == -1 && c.level == slog.LevelError && !c.verbose
		}},
		{"foreground by flag", nil, wgFlags{foreground: true}, func(c wgConfig) bool { return c.foreground }},
		{"foreground by environment", map[string]string{envForeground: "1"}, wgFlags{}, func(c wgConfig) bool { return c.foreground }},
		{"only 1 is yes", map[string]string{envForeground: "0"}, wgFlags{}, func(c wgConfig) bool { return !c.foreground }},
		{"a given tunnel has one queue", map[string]string{envTunFD: "0"}, wgFlags{}, func(c wgConfig) bool { return c.tunFD == 0 && c.queues == 1 }},
		{"queues as asked", nil, wgFlags{queues: 7}, func(c wgConfig) bool { return c.queues == 7 }},
		{"verbose", map[string]string{envLogLevel: "verbose"}, wgFlags{}, func(c wgConfig) bool { return c.level == slog.LevelDebug && c.verbose }},
		{"silent", map[string]string{envLogLevel: "silent"}, wgFlags{}, func(c wgConfig) bool { return c.level > slog.LevelError && !c.verbose }},
	} {
		got, err := parseWG(c.flags, "wg0", env(c.env))
		if err != nil || !c.ok(got) {
			t.Errorf("%s: got %+v, %v", c.name, got, err)
		}
	}
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct{ args, want []string }{
		{[]string{"firelane", "wg", "wg0"}, []string{"wg", "wg0"}},
		{[]string{"/usr/bin/firelane-wg", "-f", "wg0"}, []string{"wg", "-f", "wg0"}},
		{[]string{"firelane-wg"}, []string{"wg"}},
		{[]string{"firelane"}, []string{}},
	} {
		if got := commandLine(c.args); !slices.Equal(got, c.want) {
			t.Errorf("%v: got %v, want %v", c.args, got, c.want)
		}
	}
}

func TestNamesTheKernelTakes(t *testing.T) {
	for _, name := range []string{"wg0", "a", "abcdefghijklmno", "wg-0.1_x", "ü", "..."} {
		if err := checkName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestOneLine(t *testing.T) {
	if got := oneLine(&failure{err: os.ErrClosed}); got != "file already closed" {
		t.Errorf("got %q", got)
	}
}
