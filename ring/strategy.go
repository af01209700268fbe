package ring

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Short class names of the replication strategies.
const (
	SimpleStrategy          = "SimpleStrategy"
	NetworkTopologyStrategy = "NetworkTopologyStrategy"
	LocalStrategy           = "LocalStrategy"
)

const (
	classPrefix       = "org.apache.cassandra.locator."
	optionClass       = "class"
	optionRF          = "replication_factor"
	defaultKeyspaceRF = 1
)

// DCReplication is the number of replicas in one data centre.
type DCReplication struct {
	DC string
	RF int
}

// Strategy is a validated replication strategy: an immutable value, compared with Equal.
type Strategy struct {
	Class string          // short name: SimpleStrategy, NetworkTopologyStrategy or LocalStrategy
	RF    int             // SimpleStrategy only
	DCs   []DCReplication // NetworkTopologyStrategy only: sorted by name, each RF > 0
}

// StrategyError is a refused set of replication options. Its text is what Cassandra 5.0.8 answers, and what drivers and
// test suites match. Invalid tells which of Cassandra's two error codes goes with it.
type StrategyError struct {
	Text    string
	Invalid bool // true: Invalid (0x2200); false: Config_error (0x2300)
}

// Error implements error with Cassandra's text alone.
func (e *StrategyError) Error() string { return e.Text }

// StrategyRequest is what CREATE or ALTER KEYSPACE says about replication.
type StrategyRequest struct {
	Keyspace  string            // for error texts only
	Options   map[string]string // as in the statement, with "class"
	Previous  map[string]string // ALTER: the options before, as Strategy.Options returns them; nil for CREATE
	DCs       []string          // data centres that exist; nil accepts any name, and then replication_factor cannot be expanded
	DefaultRF int               // default_keyspace_rf; 0 means 1
}

// ParseStrategy validates the options of a CREATE KEYSPACE or of a stored keyspace. It is StrategyRequest.Parse without
// previous options; error texts carry an empty keyspace name. Errors are *StrategyError.
func ParseStrategy(opts map[string]string, knownDCs []string) (Strategy, error) {
	return StrategyRequest{Options: opts, DCs: knownDCs}.Parse()
}

// Parse validates the request as Cassandra 5.0 does and expands NetworkTopologyStrategy's replication_factor into one
// entry per known data centre; on ALTER the expansion only adds data centres and never changes one that is already
// replicated to. Full class names and short ones are accepted, transient replication ("3/1") is refused.
// Errors are *StrategyError. The maps are not changed.
func (q StrategyRequest) Parse() (Strategy, error) {
	class, opts, err := splitClass(q.Options)
	if err != nil {
		return Strategy{}, err
	}
	previous := maps.Clone(q.Previous)
	delete(previous, optionClass)
	switch class {
	case SimpleStrategy:
		return q.parseSimple(opts, previous)
	case NetworkTopologyStrategy:
		return q.parseNetwork(opts, previous)
	}
	if len(opts) > 0 { // no stored keyspace has any, so a statement asks for it
		return Strategy{}, &StrategyError{Text: "Unable to use given strategy class: LocalStrategy is reserved for internal use.", Invalid: true}
	}
	return Strategy{Class: LocalStrategy}, nil
}

func splitClass(in map[string]string) (class string, opts map[string]string, err error) {
	class, ok := in[optionClass]
	if !ok {
		return "", nil, configError("Missing replication strategy class")
	}
	opts = maps.Clone(in)
	delete(opts, optionClass)
	full := class
	if !strings.Contains(class, ".") {
		full = classPrefix + class
	}
	switch short, _ := strings.CutPrefix(full, classPrefix); short {
	case SimpleStrategy, NetworkTopologyStrategy, LocalStrategy:
		return short, opts, nil
	case "OldNetworkTopologyStrategy":
		return "", nil, configError("The support for the OldNetworkTopologyStrategy has been removed in C* version 4.0. " +
			"The keyspace strategy should be switch to NetworkTopologyStrategy")
	}
	return "", nil, configError("Unable to find replication strategy class '%s'", full)
}

func (q StrategyRequest) parseSimple(opts, previous map[string]string) (Strategy, error) {
	if _, ok := opts[optionRF]; !ok {
		opts[optionRF] = q.fallbackRF(previous)
	}
	rf, err := parseRF(opts[optionRF])
	if err != nil {
		return Strategy{}, err
	}
	for _, key := range slices.Sorted(maps.Keys(opts)) {
		if key != optionRF {
			return Strategy{}, q.unrecognized(key, SimpleStrategy)
		}
	}
	return Strategy{Class: SimpleStrategy, RF: rf}, nil
}

func (q StrategyRequest) parseNetwork(opts, previous map[string]string) (Strategy, error) {
	q.expand(opts, previous)
	s := Strategy{Class: NetworkTopologyStrategy}
	for _, dc := range slices.Sorted(maps.Keys(opts)) {
		if strings.EqualFold(dc, optionRF) {
			return Strategy{}, configError("%s should not appear as an option at construction time for NetworkTopologyStrategy", optionRF)
		}
		rf, err := parseRF(opts[dc])
		if err != nil {
			return Strategy{}, err
		}
		if rf > 0 {
			s.DCs = append(s.DCs, DCReplication{dc, rf})
		}
	}
	if len(s.DCs) == 0 {
		return Strategy{}, configError("Configuration for at least one datacenter must be present")
	}
	for _, r := range s.DCs {
		if q.DCs != nil && !slices.Contains(q.DCs, r.DC) {
			return Strategy{}, q.unrecognized(r.DC, NetworkTopologyStrategy)
		}
	}
	return s, nil
}

// expand turns replication_factor into one option per data centre (CASSANDRA-14303) and drops those with factor 0. A
// factor that is no number is dropped silently, as 5.0.8 does: what remains without it is judged.
func (q StrategyRequest) expand(opts, previous map[string]string) {
	if len(opts) == 0 {
		opts[optionRF] = q.fallbackRF(previous)
	}
	if factor, ok := opts[optionRF]; ok {
		delete(opts, optionRF)
		for dc, n := range previous {
			if _, given := opts[dc]; !given && dc != optionRF {
				opts[dc] = n
			}
		}
		rf, err := parseRF(factor)
		if err != nil {
			return
		}
		for _, dc := range q.DCs {
			if _, given := opts[dc]; !given {
				opts[dc] = strconv.Itoa(rf)
			}
		}
	}
	maps.DeleteFunc(opts, func(_, n string) bool { return n == "0" })
}

func (q StrategyRequest) fallbackRF(previous map[string]string) string {
	if rf, ok := previous[optionRF]; ok {
		return rf
	}
	if q.DefaultRF > 0 {
		return strconv.Itoa(q.DefaultRF)
	}
	return strconv.Itoa(defaultKeyspaceRF)
}

func (q StrategyRequest) unrecognized(option, class string) error {
	return configError("Unrecognized strategy option {%s} passed to %s for keyspace %s", option, class, q.Keyspace)
}

// parseRF reads "n"; "n/t" is well formed in Cassandra but needs transient replication, which is off there by default.
func parseRF(s string) (int, error) {
	full, transient, split := strings.Cut(s, "/")
	if strings.Contains(transient, "/") {
		return 0, configError("Replication factor format is <replicas> or <replicas>/<transient>")
	}
	n, err := parseInt(full)
	if err != nil {
		return 0, err
	}
	if split {
		t, err := parseInt(transient)
		if err != nil {
			return 0, err
		}
		if t != 0 {
			return 0, configError("Transient replication is not enabled on this node")
		}
	}
	if n < 0 {
		return 0, configError("Replication factor must be non-negative, found %d", n)
	}
	return n, nil
}

func parseInt(s string) (int, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, configError("For input string: \"%s\"", s)
	}
	return int(n), nil
}

func configError(format string, args ...any) error {
	return &StrategyError{Text: fmt.Sprintf(format, args...)}
}

// Options returns the strategy as system_schema.keyspaces.replication shows it, with the full class name. The map is
// the caller's. ParseStrategy(s.Options(), nil) returns s.
func (s Strategy) Options() map[string]string {
	out := map[string]string{optionClass: s.ClassName()}
	if s.Class == SimpleStrategy {
		out[optionRF] = strconv.Itoa(s.RF)
	}
	for _, r := range s.DCs {
		out[r.DC] = strconv.Itoa(r.RF)
	}
	return out
}

// ClassName returns the full class name that drivers see.
func (s Strategy) ClassName() string { return classPrefix + s.Class }

// IsLocal tells whether each node keeps the data for itself alone.
func (s Strategy) IsLocal() bool { return s.Class == LocalStrategy }

// FactorIn returns the number of replicas asked for in one data centre. SimpleStrategy knows no data centres and
// returns its factor for each.
func (s Strategy) FactorIn(dc string) int {
	if s.Class == SimpleStrategy {
		return s.RF
	}
	for _, r := range s.DCs {
		if r.DC == dc {
			return r.RF
		}
	}
	return 0
}

// Factor returns the number of replicas asked for in all data centres together.
func (s Strategy) Factor() int {
	total := s.RF
	for _, r := range s.DCs {
		total += r.RF
	}
	return total
}

// Equal tells whether both place replicas by the same rule.
func (s Strategy) Equal(o Strategy) bool {
	return s.Class == o.Class && s.RF == o.RF && slices.Equal(s.DCs, o.DCs)
}

// String returns a stable text such as "NetworkTopologyStrategy{dc1:3 dc2:2}", usable as a cache key.
func (s Strategy) String() string {
	switch s.Class {
	case SimpleStrategy:
		return s.Class + "{" + strconv.Itoa(s.RF) + "}"
	case LocalStrategy:
		return s.Class
	}
	var b strings.Builder
	b.WriteString(s.Class + "{")
	for i, r := range s.DCs {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(r.DC + ":" + strconv.Itoa(r.RF))
	}
	return b.String() + "}"
}

// Warnings returns the client warnings of Cassandra for factors that the nodes of r cannot satisfy; nil if there are
// none or r has no nodes at all.
func (s Strategy) Warnings(keyspace string, r *Ring) []string {
	const format = "Your replication factor %d for keyspace %s is higher than the number of nodes %d"
	var out []string
	if n := len(r.nodes); s.Class == SimpleStrategy && s.RF > n && n > 0 {
		out = append(out, fmt.Sprintf(format, s.RF, keyspace, n))
	}
	for _, d := range s.DCs {
		if n := r.nodesIn(d.DC); d.RF > n && n > 0 {
			out = append(out, fmt.Sprintf(format+" for datacenter %s", d.RF, keyspace, n, d.DC))
		}
	}
	return out
}
