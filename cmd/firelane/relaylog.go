package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
)

// parseLog reads the log's form and its level. filter is what RUST_LOG says.
func (c *relayConfig) parseLog(filter string) (err error) {
	switch c.logFormat {
	case "human":
	case "json":
		c.json = true
	default:
		return fmt.Errorf("--log-format %q: want human or json", c.logFormat)
	}
	if c.logLevel != "" {
		if c.level, err = parseLevel(c.logLevel); err != nil {
			return fmt.Errorf("--log-level: %w", err)
		}
		return nil
	}
	var targets []string
	if c.level, targets, err = parseDirectives(filter); err != nil {
		return fmt.Errorf("%s=%q: %w", envFilter, filter, err)
	}
	for _, target := range targets {
		c.ignored = append(c.ignored, envFilter+"="+target)
	}
	return nil
}

// parseDirectives reads a filter as other programs write it, "warn,some_target=debug", of which
// only the level without a target means anything here; without one it is info. A word that is no
// level is a target whose messages are all wanted: these are returned, as one may be a level with a
// typing error.
func parseDirectives(text string) (level slog.Level, targets []string, err error) {
	for d := range strings.SplitSeq(text, ",") {
		target, of, targeted := strings.Cut(strings.TrimSpace(d), "=")
		if !targeted {
			of = target
		}
		if of == "" && !targeted {
			continue
		}
		l, err := parseLevel(of)
		switch {
		case err == nil && !targeted:
			level = l
		case err != nil && !targeted && isTarget(of):
			targets = append(targets, of)
		case err != nil:
			return 0, nil, err
		}
	}
	return level, targets, nil
}

// isTarget reports whether a word may be the path of a module of a program in Rust.
func isTarget(word string) bool {
	return !strings.ContainsFunc(word, func(r rune) bool {
		return r != '_' && r != ':' && r != '-' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
	})
}

func parseLevel(word string) (slog.Level, error) {
	switch strings.ToLower(word) {
	case "trace", "debug", "verbose":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	case "off", "silent":
		return levelSilent, nil
	}
	return 0, fmt.Errorf("unknown level %q: want trace, debug, info, warn, error or off", word)
}

// newRelayLog returns a log whose level can be changed while it is used.
func newRelayLog(w io.Writer, json bool, level slog.Level) (*slog.Logger, *slog.LevelVar) {
	v := new(slog.LevelVar)
	v.Set(level)
	o := &slog.HandlerOptions{Level: v}
	if json {
		return slog.New(slog.NewJSONHandler(w, o)), v
	}
	return slog.New(slog.NewTextHandler(w, o)), v
}

// logFilter answers POST /log_filter?directives=LEVEL by changing the level.
func logFilter(v *slog.LevelVar) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /log_filter", func(w http.ResponseWriter, r *http.Request) {
		text := r.URL.Query().Get("directives")
		level, targets, err := parseDirectives(text)
		if text == "" || err != nil || len(targets) > 0 {
			http.Error(w, "want directives=LEVEL, as in directives=debug", http.StatusBadRequest)
			return
		}
		v.Set(level)
		fmt.Fprintln(w, "ok")
	})
	return mux
}
