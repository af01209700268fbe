package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/helenusdb/helenus/internal/e2e/differ"
)

type options struct {
	cassandra, helenus, dir, file string
	rewrite                       bool
	seed                          int64
	runs, statements              int
	for_                          time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.cassandra, "cassandra", "127.0.0.11:9042", "address of the Cassandra to compare with")
	flag.StringVar(&o.helenus, "helenus", "127.0.0.1:9042", "address of the Helenus node")
	flag.StringVar(&o.dir, "dir", "internal/e2e/differ/testdata", "folder of the corpus")
	flag.StringVar(&o.file, "file", "", "only this file of the corpus")
	flag.BoolVar(&o.rewrite, "rewrite", false, "rewrite golden files")
	flag.Int64Var(&o.seed, "seed", time.Now().UnixNano()%1e9, "first seed of the random scripts")
	flag.IntVar(&o.runs, "runs", 20, "random tables")
	flag.IntVar(&o.statements, "statements", 120, "statements per random table")
	flag.DurationVar(&o.for_, "for", 0, "random: go on until this time has passed, whatever -runs says")
	flag.Parse()
	differences, err := o.run(flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if differences > 0 {
		fmt.Printf("%d differences\n", differences)
		os.Exit(1)
	}
}

func (o *options) run(what string) (int, error) {
	switch what {
	case "corpus", "golden":
		return o.corpus(what == "golden")
	case "random":
		return o.random()
	}
	return 0, fmt.Errorf("want corpus, golden or random; see -h")
}

func (o *options) corpus(golden bool) (differences int, err error) {
	files, err := differ.ReadCorpus(o.dir)
	if err != nil {
		return 0, err
	}
	steps := 0
	for i := range files {
		if o.file != "" && files[i].Name != o.file {
			continue
		}
		n, err := o.compare(&files[i], golden)
		if err != nil {
			return differences, err
		}
		differences += n
		steps += len(files[i].Steps)
	}
	fmt.Printf("%d statements\n", steps)
	return differences, nil
}

// compare runs one file against what the flags say and prints the differences.
func (o *options) compare(f *differ.File, golden bool) (differences int, err error) {
	path := filepath.Join(o.dir, f.Name+".golden")
	var theirs, ours differ.Golden
	if golden {
		theirs, err = differ.ReadGolden(path)
	} else {
		theirs, err = differ.Record(o.oracle(), f)
		if err == nil && o.rewrite {
			return 0, theirs.Write(path)
		}
	}
	if err != nil {
		return 0, err
	}
	if ours, err = differ.Record(differ.NewServer(o.helenus), f); err != nil {
		return 0, err
	}
	if o.rewrite {
		name := filepath.Join(o.dir, f.Name+".ours")
		purpose := ours.OnPurpose(f, theirs)
		if len(purpose) == 0 {
			_ = os.Remove(name)
			return 0, nil
		}
		return 0, purpose.Write(name)
	}
	purpose, err := differ.ReadGolden(filepath.Join(o.dir, f.Name+".ours"))
	if err != nil {
		return 0, err
	}
	found := differ.Compare(f, theirs, purpose, ours)
	for _, d := range found {
		fmt.Println(d)
	}
	return len(found), nil
}

// oracle returns the Cassandra, which others may be using.
func (o *options) oracle() *differ.Server {
	s := differ.NewServer(o.cassandra)
	s.Shared = true
	return s
}

func (o *options) random() (differences int, err error) {
	cassandra, helenus := o.oracle(), differ.NewServer(o.helenus)
	for _, s := range []*differ.Server{cassandra, helenus} {
		if err := s.Begin("diff_random"); err != nil {
			return 0, err
		}
		defer s.End() //nolint:errcheck // the keyspace is dropped at the next start too
	}
	end := time.Now().Add(o.for_)
	for i := 0; i < o.runs || time.Now().Before(end); i++ {
		seed := o.seed + int64(i)
		found, err := differ.RandomRun(cassandra, helenus, seed, o.statements)
		if err != nil {
			return differences, fmt.Errorf("seed %d: %w", seed, err)
		}
		if found != "" {
			differences++
			fmt.Printf("seed %d\n%s\n", seed, found)
		}
	}
	return differences, nil
}
