package config

import (
	"encoding/json"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

// valid is a validator for the part of JSON Schema that Schema uses; any other keyword fails the
// test.
func valid(t rapid.TB, schema map[string]any, v any) bool {
	t.Helper()
	good := true
	for keyword, want := range schema {
		switch keyword {
		case "$schema", "title", "description", "properties", "additionalProperties":
		case "type":
			good = good && hasType(want, v)
		case "required":
			m, isMap := v.(map[string]any)
			for _, k := range want.([]any) {
				_, there := m[k.(string)]
				good = good && (there || !isMap)
			}
		case "items":
			l, _ := v.([]any)
			for _, item := range l {
				good = valid(t, want.(map[string]any), item) && good
			}
		case "minItems", "maxItems":
			l, isList := v.([]any)
			good = good && (!isList || within(keyword, float64(len(l)), want))
		case "minLength", "maxLength":
			s, isText := v.(string)
			good = good && (!isText || within(keyword, float64(utf8.RuneCountInString(s)), want))
		case "minimum", "maximum":
			n, isNumber := v.(float64)
			good = good && (!isNumber || within(keyword, n, want))
		case "enum":
			good = good && slices.Contains(want.([]any), v)
		case "not":
			good = good && !valid(t, want.(map[string]any), v)
		case "const":
			good = good && v == want
		case "pattern":
			s, isText := v.(string)
			good = good && (!isText || regexp.MustCompile(want.(string)).MatchString(s))
		default:
			t.Fatalf("keyword %s", keyword)
		}
	}
	if m, isMap := v.(map[string]any); isMap && schema["properties"] != nil {
		for k, item := range m {
			p, known := schema["properties"].(map[string]any)[k]
			good = good && known && valid(t, p.(map[string]any), item)
		}
	}
	return good
}

func within(keyword string, n float64, want any) bool {
	if strings.HasPrefix(keyword, "min") {
		return n >= want.(float64)
	}
	return n <= want.(float64)
}

func hasType(want, v any) bool {
	if all, several := want.([]any); several {
		return slices.ContainsFunc(all, func(one any) bool { return hasType(one, v) })
	}
	switch v := v.(type) {
	case map[string]any:
		return want == "object"
	case []any:
		return want == "array"
	case string:
		return want == "string"
	case bool:
		return want == "boolean"
	case float64:
		return want == "number" || want == "integer" && v == math.Trunc(v)
	}
	return false
}

func schemaOf(t rapid.TB) map[string]any {
	t.Helper()
	var s map[string]any
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON is a YAML file as encoding/json would read it.
func asJSON(t rapid.TB, b []byte) (v any) {
	t.Helper()
	var y any
	if err := yaml.Unmarshal(b, &y); err != nil {
		t.Fatal(err)
	}
	j, err := json.Marshal(y)
	if err == nil {
		err = json.Unmarshal(j, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The example with one value in it replaced at random: what Parse accepts is valid against the
// schema, and what is not valid, Parse refuses.
func TestSchemaAcceptsWhatParseAccepts(t *testing.T) {
	b, err := os.ReadFile("testdata/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	schema := schemaOf(t)
	if !valid(t, schema, asJSON(t, b)) {
		t.Fatal("the example is not valid")
	}
	accepted, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		v := mutate(t, asJSON(t, b))
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Parse("mutated", j)
		switch good := valid(t, schema, v); {
		case err == nil && !good:
			t.Fatalf("accepted, and not valid: %s", j)
		case good:
			accepted++
		default:
			refused++
		}
	})
	if accepted == 0 || refused == 0 {
		t.Errorf("%d are valid, %d are not", accepted, refused)
	}
}

// mutate replaces, removes or renames something in v.
func mutate(t *rapid.T, v any) any {
	if rapid.IntRange(0, 9).Draw(t, "here") == 0 {
		return rapid.SampledFrom([]any{"x", "", "tcp", "10.0.0.1", 1.0, 0.5, true, nil, []any{}, map[string]any{}}).Draw(t, "value")
	}
	switch v := v.(type) {
	case map[string]any:
		names := make([]string, 0, len(v))
		for k := range v {
			names = append(names, k)
		}
		slices.Sort(names)
		if len(names) == 0 {
			return v
		}
		k := rapid.SampledFrom(names).Draw(t, "key")
		switch rapid.IntRange(0, 14).Draw(t, "what") {
		case 0:
			delete(v, k)
		case 1:
			v[k+"s"] = v[k]
		default:
			v[k] = mutate(t, v[k])
		}
	case []any:
		if len(v) > 0 {
			i := rapid.IntRange(0, len(v)-1).Draw(t, "item")
			v[i] = mutate(t, v[i])
		}
	}
	return v
}

// Ids that the protocol takes for none are invalid in the schema, too.
func TestSchemaRefusesTheNilUUID(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{nilUUID: false, "00000000-0000-0000-0000-000000000001": true} {
		file := map[string]any{"version": 1.0, "accounts": []any{map[string]any{
			"slug": "acme", "id": id, "resources": []any{map[string]any{"name": "a", "type": "static_device_pool", "devices": []any{id}}},
		}}}
		if got := valid(t, schema, file); got != want {
			t.Errorf("%s: %v", id, got)
		}
	}
}
