package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// contact is an address to reach the cluster by: a seed or what the caller of Join and SetPeers named.
type contact struct {
	text string         // host:port
	last netip.AddrPort // what it resolved to when it was reached last
	peer bool           // from SetPeers, which replaces them
}

// Join contacts the addresses (host:port) now, and from then on for as long as nobody alive has them. It returns how
// many were reached; the error is nil if at least one was, or if there was nothing to contact. ErrNotRunning before
// Ready.
func (g *Gossip) Join(ctx context.Context, addrs []string) (reached int, err error) {
	if ml, done := g.use(); ml == nil {
		return 0, ErrNotRunning
	} else {
		defer done()
	}
	g.remember(addrs, false)
	reached, err = g.contactAll(ctx, addrs)
	if reached > 0 {
		return reached, nil
	}
	return 0, err
}

// SetPeers replaces the addresses known from the cluster metadata, which are contacted like seeds: a node that restarts
// finds the others though all seeds are gone. At most 1024 together with the seeds are kept.
func (g *Gossip) SetPeers(addrs []string) {
	g.mu.Lock()
	g.contacts = slices.DeleteFunc(g.contacts, func(c *contact) bool { return c.peer })
	g.mu.Unlock()
	g.remember(addrs, true)
	nudge(g.rejoin)
}

func (g *Gossip) remember(addrs []string, peer bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range addrs {
		known := slices.ContainsFunc(g.contacts, func(c *contact) bool { return c.text == a })
		if !known && len(g.contacts) < contactsMax {
			g.contacts = append(g.contacts, &contact{text: a, peer: peer})
		}
	}
}

// rejoinLoop contacts whoever should be there and is not, for ever: memberlist itself never again contacts a member it
// has reaped.
func (g *Gossip) rejoinLoop(ctx context.Context) {
	t := time.NewTicker(g.opts.RejoinInterval)
	defer t.Stop()
	for {
		if _, err := g.contactAll(ctx, g.missing()); err != nil && ctx.Err() == nil {
			g.log.Debug("rejoin", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-g.rejoin:
		}
	}
}

// missing returns the addresses to contact in this round: those of members that are not alive and contacts, if no alive
// member has them, at most rejoinBatchMax, the others in later rounds.
func (g *Gossip) missing() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	alive := map[netip.AddrPort]bool{g.view.self.Addr: true}
	for _, r := range g.view.records {
		if r.heard.Alive {
			alive[r.heard.Addr] = true
		}
	}
	var out []string
	for _, id := range g.view.ids() {
		if r := g.view.records[id]; !r.heard.Alive && r.heard.Addr.IsValid() && !r.forgotten && !alive[r.heard.Addr] {
			out = append(out, r.heard.Addr.String())
		}
	}
	for _, c := range g.contacts {
		addr := c.last
		if literal, err := netip.ParseAddrPort(c.text); err == nil {
			addr = netip.AddrPortFrom(literal.Addr().Unmap(), literal.Port())
		}
		if !alive[addr] && !slices.Contains(out, c.text) {
			out = append(out, c.text)
		}
	}
	if len(out) <= rejoinBatchMax {
		return out
	}
	start := g.cursor % len(out)
	g.cursor = start + rejoinBatchMax
	return append(out[start:], out[:start]...)[:rejoinBatchMax]
}

// contactAll exchanges state with the addresses, a few at a time, and returns how many answered.
func (g *Gossip) contactAll(ctx context.Context, addrs []string) (reached int, err error) {
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		failed []error
		slots  = make(chan struct{}, rejoinParallel)
	)
	for _, a := range addrs {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			wg.Wait()
			return reached, ctx.Err()
		}
		wg.Go(func() {
			err := g.contactOne(ctx, a)
			mu.Lock()
			if err == nil {
				reached++
			} else {
				failed = append(failed, err)
			}
			mu.Unlock()
			<-slots
		})
	}
	wg.Wait()
	return reached, errors.Join(failed...)
}

func (g *Gossip) contactOne(ctx context.Context, text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Errorf("gossip: contact %q: %w", text, err)
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return fmt.Errorf("gossip: contact %s: %w", text, err)
	}
	ctx, cancel := context.WithTimeout(ctx, g.opts.StreamTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return fmt.Errorf("gossip: contact %s: %w", text, err)
	}
	for _, ip := range ips {
		addr := netip.AddrPortFrom(ip.Unmap(), uint16(number))
		if _, err = g.ml.Join([]string{addr.String()}); err == nil {
			g.reached(text, addr)
			return nil
		}
	}
	return fmt.Errorf("gossip: contact %s: %w", text, err)
}

func (g *Gossip) reached(text string, addr netip.AddrPort) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.contacts {
		if c.text == text {
			c.last = addr
		}
	}
}
