package signal

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// secrets are what no message may show.
func secrets(t testing.TB) []string {
	key := psk(t).Reveal()
	return []string{
		"ksqwm66pilnb7skdwwfw3r", "mzkrj52x5h5ebrfdsh5iyq", "1OfO", ingestToken(t).Reveal(), vectorPSK, stampSecret.Reveal(),
		fmt.Sprint(key[:]), fmt.Sprintf("%x", key), base64.StdEncoding.EncodeToString(key[:]), fmt.Sprintf("%d", key), fmt.Sprintf("%#v", key),
	}
}

func TestMessagesDoNotShowSecrets(t *testing.T) {
	shown := func(name, text string) {
		for _, s := range secrets(t) {
			if strings.Contains(text, s) {
				t.Errorf("%s shows %q:\n%s", name, s, text)
			}
		}
	}
	messages := []any{Join{StampSecret: stampSecret}, relayEntry, clientICE, psk(t), stampSecret, []any{psk(t)}, &relayEntry}
	for _, g := range goldens(t) {
		messages = append(messages, g.message)
	}
	for _, m := range messages {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			shown(fmt.Sprintf("%T under %s", m, verb), fmt.Sprintf(verb, m))
		}
		if _, ok := m.([]any); ok {
			continue
		}
		for _, json := range []bool{false, true} {
			var b bytes.Buffer
			var h slog.Handler = slog.NewTextHandler(&b, nil)
			if json {
				h = slog.NewJSONHandler(&b, nil)
			}
			slog.New(h).Info("x", "message", m)
			shown(fmt.Sprintf("%T in a log", m), b.String())
		}
	}
}

func TestSecretsCompare(t *testing.T) {
	if !NewSecret("a").Equal(NewSecret("a")) || NewSecret("a").Equal(NewSecret("b")) || NewSecret("a").Equal(NewSecret("aa")) {
		t.Error("secrets compare wrongly")
	}
	if !base(1).Equal(base(1)) || base(1).Equal(base(2)) {
		t.Error("keys compare wrongly")
	}
	if fmt.Sprint(NewSecret("a"), base(1)) != redacted+" "+redacted {
		t.Error("not redacted")
	}
}
