package differ

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// RandomRun makes a random table, writes to it and reads from it, all from seed, on both servers. It returns the first
// difference with the fewest statements that still show it, "" when there is none.
func RandomRun(cassandra, helenus *Server, seed int64, statements int) (string, error) {
	g := &generator{rng: rand.New(rand.NewPCG(uint64(seed), 0x68656c656e7573))}
	g.makeTable()
	g.conditional = g.rng.IntN(3) == 0
	p := &pair{cassandra: cassandra, helenus: helenus, g: g, seed: seed}
	if _, err := p.start(); err != nil {
		return "", err
	}
	var history []string
	for range statements {
		text := g.write()
		if g.rng.IntN(3) == 0 {
			text = g.read()
		}
		diff, err := p.compare(text)
		if err != nil {
			return "", err
		}
		if diff != "" {
			return p.shrink(history, text, diff)
		}
		if !strings.Contains(text, "SELECT") {
			history = append(history, text)
		}
	}
	return "", p.drop()
}

// pair runs statements on two servers. In texts, $t stands for the table.
type pair struct {
	cassandra, helenus *Server
	g                  *generator
	seed               int64
	tries              int // tables made
}

func (p *pair) table() string { return fmt.Sprintf("r%d_%d", p.seed, p.tries) }

// start makes an empty table.
func (p *pair) start() (string, error) {
	p.tries++
	return p.compare(p.g.create)
}

func (p *pair) drop() error {
	_, err := p.compare("DROP TABLE $t")
	return err
}

// compare runs a statement on both servers and returns the difference of their answers.
func (p *pair) compare(text string) (string, error) {
	st, err := ParseStep(strings.ReplaceAll(text, "$t", p.table()))
	if err != nil {
		return "", err
	}
	theirs, err := p.cassandra.Run(&st)
	if err != nil {
		return "", err
	}
	ours, err := p.helenus.Run(&st)
	if err != nil {
		ours = "no answer: " + err.Error()
	}
	if theirs == ours || fellOver(theirs) {
		return "", nil
	}
	return Diff(theirs, ours), nil
}

// shrink drops writes that the difference does not need: halves first, then smaller parts.
func (p *pair) shrink(history []string, last, diff string) (string, error) {
	for size := max(len(history)/2, 1); ; size /= 2 {
		for at := 0; at < len(history); {
			rest := append(append([]string(nil), history[:at]...), history[min(at+size, len(history)):]...)
			d, err := p.replay(rest, last)
			if err != nil {
				return "", err
			}
			if d != "" {
				history, diff = rest, d
			} else {
				at += size
			}
		}
		if size <= 1 {
			break
		}
	}
	if err := p.drop(); err != nil {
		return "", err
	}
	lines := append(append([]string{p.g.create}, history...), last)
	return strings.ReplaceAll(strings.Join(lines, "\n"), "$t", "t") + "\n" + diff, nil
}

// replay runs history and last on a new table and returns the difference of last.
func (p *pair) replay(history []string, last string) (string, error) {
	if err := p.drop(); err != nil {
		return "", err
	}
	if _, err := p.start(); err != nil {
		return "", err
	}
	for _, text := range history {
		if _, err := p.compare(text); err != nil {
			return "", err
		}
	}
	return p.compare(last)
}

// fellOver reports whether Cassandra failed to answer what it should: there is nothing to compare then.
func fellOver(answer string) bool {
	return strings.Contains(answer, javaException) || strings.Contains(answer, "error 0x1300 ") || strings.Contains(answer, "error 0x1500 ")
}
