package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

const (
	envPrefix   = "HELENUS_"
	fileBytes   = 1 << 20 // a configuration file beyond this is a mistake
	defaultFile = "helenus.yaml"
)

// Setting describes one key for --help, --print-config and the documentation.
type Setting struct{ Key, Default, Doc string }

// Settings lists every key in the order of Config.
func Settings() []Setting {
	t := reflect.TypeOf(Config{})
	out := make([]Setting, t.NumField())
	for i := range out {
		tag := t.Field(i).Tag
		out[i] = Setting{tag.Get("key"), tag.Get("default"), tag.Get("doc")}
	}
	return out
}

// AddFlags declares one flag for each key, plus --config for the file.
func AddFlags(flags *pflag.FlagSet) {
	flags.String("config", "", "configuration file (default "+defaultFile+" in the working folder, if there is one)")
	for _, s := range Settings() {
		flags.String(flagName(s.Key), s.Default, s.Doc)
	}
}

func flagName(key string) string { return strings.ReplaceAll(key, "_", "-") }

// Load reads the file named by --config (or helenus.yaml, if present), the environment (as os.Environ gives it) and
// the flags that were set, and validates the result. flags may be nil.
func Load(flags *pflag.FlagSet, environ []string) (*Config, error) {
	values := map[string]string{}
	for _, s := range Settings() {
		values[s.Key] = s.Default
	}
	err := errors.Join(fromFile(values, flags), fromEnviron(values, environ))
	if flags != nil {
		for _, s := range Settings() {
			if f := flags.Lookup(flagName(s.Key)); f != nil && f.Changed {
				values[s.Key] = f.Value.String()
			}
		}
	}
	if err != nil {
		return nil, err
	}
	c, err := build(values)
	if err != nil {
		return nil, err
	}
	return c, c.Validate()
}

// Default is the configuration without file, environment and flags.
func Default() *Config {
	c, err := Load(nil, nil)
	if err != nil {
		panic("config: defaults are not valid: " + err.Error())
	}
	return c
}

func fromFile(values map[string]string, flags *pflag.FlagSet) error {
	path, given := defaultFile, false
	if flags != nil {
		if f := flags.Lookup("config"); f != nil && f.Value.String() != "" {
			path, given = f.Value.String(), true
		}
	}
	if flags == nil {
		return nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) && !given {
		return nil
	}
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if info.Size() > fileBytes {
		return fmt.Errorf("config: %s has %d bytes, more than %d", path, info.Size(), fileBytes)
	}
	v := viper.New()
	v.SetConfigFile(path)
	v.SetConfigType("yaml")
	if err := v.ReadInConfig(); err != nil {
		return fmt.Errorf("config: %s: %w", path, err)
	}
	keys := v.AllKeys()
	sort.Strings(keys)
	for _, key := range keys {
		if err := put(values, path, key, fileValue(v.Get(key))); err != nil {
			return err
		}
	}
	return nil
}

func fileValue(x any) string {
	if list, ok := x.([]any); ok {
		parts := make([]string, len(list))
		for i, e := range list {
			parts[i] = fmt.Sprint(e)
		}
		return strings.Join(parts, ",")
	}
	if x == nil {
		return ""
	}
	return fmt.Sprint(x)
}

func fromEnviron(values map[string]string, environ []string) error {
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		key, ok := strings.CutPrefix(name, envPrefix)
		if !ok {
			continue
		}
		if err := put(values, "environment", strings.ToLower(key), value); err != nil {
			return err
		}
	}
	return nil
}

func put(values map[string]string, where, key, value string) error {
	if _, ok := values[key]; !ok {
		return fmt.Errorf("config: %s: unknown key %q, did you mean %q?", where, key, Nearest(key, slices.Collect(maps.Keys(values))))
	}
	values[key] = value
	return nil
}

func build(values map[string]string) (*Config, error) {
	c := &Config{}
	v := reflect.ValueOf(c).Elem()
	var errs []error
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("key")
		if err := set(v.Field(i), strings.TrimSpace(values[key])); err != nil {
			errs = append(errs, fmt.Errorf("config: %s: %w", key, err))
		}
	}
	return c, errors.Join(errs...)
}

func set(field reflect.Value, text string) error {
	switch p := field.Addr().Interface().(type) {
	case *string:
		*p = text
	case *[]string:
		for _, s := range strings.Split(text, ",") {
			if s = strings.TrimSpace(s); s != "" {
				*p = append(*p, s)
			}
		}
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		*p = n
	case *bool:
		b, err := parseBool(text)
		if err != nil {
			return err
		}
		*p = b
	case *Bytes:
		b, err := ParseBytes(text)
		if err != nil {
			return err
		}
		*p = b
	case *Rate:
		r, err := ParseRate(text)
		if err != nil {
			return err
		}
		*p = r
	case *time.Duration:
		d, err := ParseDuration(text)
		if err != nil {
			return err
		}
		*p = d
	case *netip.Addr:
		a, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("%q is not an IP address", text)
		}
		*p = a
	default:
		panic(fmt.Sprintf("config: no parser for %s", field.Type()))
	}
	return nil
}

const day = 24 * time.Hour

// ParseDuration reads a duration as Go writes them, and days as Cassandra does: 500ms, 10s, 3h, 1d, 1d12h. Days come first, in whole numbers.
func ParseDuration(s string) (time.Duration, error) {
	wrong := fmt.Errorf("%q is not a duration such as 500ms, 10s, 3h or 1d", s)
	days, rest, found := strings.Cut(s, "d")
	if !found {
		days, rest = "0", s
	}
	n, err := strconv.ParseInt(days, 10, 64)
	if err != nil || n < -int64(math.MaxInt64/day) || n > int64(math.MaxInt64/day) {
		return 0, wrong
	}
	d := time.Duration(n) * day
	if found && rest == "" {
		return d, nil
	}
	more, err := time.ParseDuration(rest)
	if err != nil || found && (more < 0 || rest[0] == '+') {
		return 0, wrong
	}
	if strings.HasPrefix(days, "-") {
		more = -more
	}
	if sum := d + more; (sum < d) == (more < 0) {
		return sum, nil
	}
	return 0, wrong
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "on", "true", "yes", "1":
		return true, nil
	case "off", "false", "no", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither on nor off", s)
}

// Print writes the configuration as a helenus.yaml that Load reads back to an equal tree, keys with secrets masked
// (gossip_encryption_key).
func (c *Config) Print(w io.Writer) error {
	v := reflect.ValueOf(c).Elem()
	for i, s := range Settings() {
		if _, err := fmt.Fprintf(w, "# %s\n%s: %s\n", s.Doc, s.Key, text(s.Key, v.Field(i).Interface())); err != nil {
			return fmt.Errorf("config: print: %w", err)
		}
	}
	return nil
}

// Value is a key and its value as text.
type Value struct{ Key, Value string }

// Values lists the configuration in the order of Config, secrets masked.
func (c *Config) Values() []Value {
	v := reflect.ValueOf(c).Elem()
	var out []Value
	for i, s := range Settings() {
		out = append(out, Value{s.Key, strings.Trim(text(s.Key, v.Field(i).Interface()), `"`)})
	}
	return out
}

func text(key string, x any) string {
	switch x := x.(type) {
	case bool:
		if x {
			return `"on"`
		}
		return `"off"`
	case []string:
		return strconv.Quote(strings.Join(x, ","))
	case string:
		if key == "gossip_encryption_key" && x != "" {
			return `"***"`
		}
		return strconv.Quote(x)
	}
	return fmt.Sprint(x)
}

// Nearest returns the known word with the smallest edit distance to a word, the first in alphabetical order of several; "" when
// none is known.
func Nearest(word string, known []string) string {
	best, distance := "", 1<<30
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := editDistance(word, k); d < distance {
			best, distance = k, d
		}
	}
	return best
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

func sortErrors(errs []error) []error {
	sort.Slice(errs, func(i, j int) bool { return errs[i].Error() < errs[j].Error() })
	return errs
}
