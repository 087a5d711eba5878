package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/firelane/firelane/relay"
)

const (
	// maxSmallFile bounds a file with a secret in bytes: a token has some 460.
	maxSmallFile = 4 << 10
	// maxUsersFile bounds a file of users: ten thousand of them.
	maxUsersFile = 1 << 20
	// leastSecret is the fewest characters of a secret that cannot be guessed from one captured
	// exchange: 64 bits in hexadecimal.
	leastSecret = 16
)

// readBounded returns a file's text, unless it is longer than most bytes.
func readBounded(path string, most int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return string(b), err
}

// readSmall returns a file's text without the white space around it.
func readSmall(path string) (string, error) {
	text, err := readBounded(path, maxSmallFile)
	return strings.TrimSpace(text), err
}

// readSecret makes credentials from the secret in a file.
func readSecret(path string) (relay.Credentials, error) {
	text, err := readSmall(path)
	if err == nil && len(text) < leastSecret {
		err = fmt.Errorf("a secret of fewer than %d characters could be guessed: make one by \"openssl rand -hex 32\"", leastSecret)
	}
	if err != nil {
		return relay.Credentials{}, fmt.Errorf("--secret-file: %w", err)
	}
	return relay.SharedSecret(text)
}

// readUsers makes credentials from lines NAME:PASSWORD; empty ones and those that begin with # do
// not count. A password may hold colons.
func readUsers(path, realm string) (none relay.Credentials, err error) {
	text, err := readBounded(path, maxUsersFile)
	if err != nil {
		return none, fmt.Errorf("--users-file: %w", err)
	}
	users := make(map[string]string)
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, word, _ := strings.Cut(line, ":")
		if name == "" || word == "" {
			return none, fmt.Errorf("--users-file: line %d of %s is not NAME:PASSWORD", n, path)
		}
		if _, twice := users[name]; twice {
			return none, fmt.Errorf("--users-file: line %d of %s names a user again", n, path)
		}
		users[name] = word
	}
	if err := lines.Err(); err != nil {
		return none, fmt.Errorf("--users-file: %s: %w", path, err)
	}
	if len(users) == 0 {
		return none, fmt.Errorf("--users-file: %s names no user", path)
	}
	c, err := relay.Users(realm, users)
	if err != nil {
		return none, fmt.Errorf("--users-file, --realm: %w", err)
	}
	return c, nil
}
