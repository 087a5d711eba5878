package config

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"
)

// namespace is the one of all ids of accounts: a random UUID.
const namespace = "8d4b6d0e-52f5-4b0c-9a77-3f1c0e6b2a94"

// derive returns the UUID version 5 (RFC 9562, section 5.5) of a name in a namespace, which is a
// UUID itself. SHA-1 is no weakness here: ids are not secrets, and whoever could make two names with
// the same id writes the policy file.
func derive(namespace, name string) string {
	space, err := hex.DecodeString(strings.ReplaceAll(namespace, "-", ""))
	if err != nil {
		panic(fmt.Sprintf("namespace %q is not a UUID", namespace)) // it was checked
	}
	sum := sha1.Sum(append(space, name...))
	b := sum[:16]
	b[6] = b[6]&0x0f | 0x50
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
