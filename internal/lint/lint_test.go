package lint

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

const module = "github.com/helenusdb/helenus"

// levels lists the rooms from the lowest to the highest: a package imports only packages of lower levels, and
// packages of its own level only where peers says so. A folder stands for itself and everything under it, unless a
// longer prefix is listed.
var levels = [][]string{
	{"internal"},
	{"ring", "cql/types"},
	{"schema"},
	{"row"},
	{"config", "rpc", "gossip"},
	{"meta", "storage"},
	{"coordinator", "repair"},
	{"cql"},
	{"cql/protocol"},
	{"cql/server"},
	{"cql/plan"},
	{"cql/system"},
	{"cql/exec"},
	{"admin"},
	{"node"},
	{"internal/e2e", "internal/sim", "internal/shell", "internal/bench", "internal/nodetool"},
	{"cmd"},
}

// peers are the edges inside one level that are allowed, each with its reason.
var peers = map[string]string{
	"cql/types -> ring":    "composite partition keys are serialized by ring, tokens are plain values",
	"config -> ring":       "configuration names tokens and partitioners with ring's own types",
	"rpc -> ring":          "host ids",
	"gossip -> ring":       "host ids",
	"meta -> rpc":          "the Raft log travels over rpc",
	"internal/e2e -> node": "tests start real nodes",
}

// owners lists the libraries that only some packages may import, with the reason.
var owners = []struct {
	library string
	rooms   []string
	why     string
}{
	{"github.com/cockroachdb/pebble", []string{"storage", "meta/raftlog", "internal/sim"}, "one engine, one owner: rows live in storage, the Raft log in meta/raftlog; the simulator brings the file system"},
	{"github.com/hashicorp/memberlist", []string{"gossip"}, "liveness stands behind gossip's failure-detector interface"},
	{"github.com/spf13/viper", []string{"config"}, "configuration is read in one place and is immutable afterwards"},
	{"go.etcd.io/raft", []string{"meta/raftlog"}, "the state machine of meta stays pure"},
	{"github.com/vmihailenco/msgpack", []string{"rpc"}, "hot messages are encoded by hand"},
	{"github.com/prometheus/client_golang", []string{"admin", "node", "internal/metrics"}, "components count in plain structs; exporting them is the edge's business"},
}

// allowed are import edges that leave the level order on purpose: files that bind a lower room for a test or a seam.
var allowed = map[string]string{}

func packageOf(path string) string { return filepath.ToSlash(filepath.Dir(path)) }

func levelOf(pkg string) int {
	best, length := -1, -1
	for i, rooms := range levels {
		for _, room := range rooms {
			if (pkg == room || strings.HasPrefix(pkg, room+"/")) && len(room) > length {
				best, length = i, len(room)
			}
		}
	}
	return best
}

// room is the top folder that a package belongs to, or its own path for the rooms under cql.
func room(pkg string) string {
	best := pkg
	length := -1
	for _, rooms := range levels {
		for _, r := range rooms {
			if (pkg == r || strings.HasPrefix(pkg, r+"/")) && len(r) > length {
				best, length = r, len(r)
			}
		}
	}
	return best
}

type goFile struct {
	path    string // slash-separated, relative to the repository
	imports []string
}

func goFiles(t *testing.T) []goFile {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var files []goFile
	fset := token.NewFileSet()
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		file := goFile{path: filepath.ToSlash(rel)}
		for _, im := range f.Imports {
			file.imports = append(file.imports, strings.Trim(im.Path.Value, `"`))
		}
		files = append(files, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("found only %d Go files under %s", len(files), root)
	}
	return files
}

func TestImportsPointDownwards(t *testing.T) {
	for _, f := range goFiles(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		from := packageOf(f.path)
		if levelOf(from) < 0 {
			t.Errorf("%s: package %s has no level: add it to levels in this test, with care", f.path, from)
			continue
		}
		for _, im := range f.imports {
			to, ours := strings.CutPrefix(im, module+"/")
			if !ours || room(from) == room(to) {
				continue
			}
			edge := room(from) + " -> " + room(to)
			switch {
			case allowed[from+" -> "+to] != "" || peers[edge] != "":
			case levelOf(to) > levelOf(from):
				t.Errorf("%s imports %s, which stands above it", f.path, to)
			case levelOf(to) == levelOf(from):
				t.Errorf("%s imports %s of its own level: declare the small interface you need and bind it in node", f.path, to)
			}
		}
	}
}

func TestLibrariesHaveOwners(t *testing.T) {
	for _, f := range goFiles(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue // a test may bring its own file system or reference
		}
		from := packageOf(f.path)
		for _, im := range f.imports {
			for _, o := range owners {
				if !strings.HasPrefix(im, o.library) {
					continue
				}
				if !ownedBy(from, o.rooms) {
					t.Errorf("%s imports %s, which only %s may: %s", f.path, im, strings.Join(o.rooms, ", "), o.why)
				}
			}
		}
	}
}

func ownedBy(pkg string, rooms []string) bool {
	for _, r := range rooms {
		if pkg == r || strings.HasPrefix(pkg, r+"/") {
			return true
		}
	}
	return false
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	has := map[string]bool{}
	for _, f := range goFiles(t) {
		pkg := packageOf(f.path)
		if !strings.HasSuffix(f.path, "_test.go") {
			has[pkg] = has[pkg] || filepath.Base(f.path) == "doc.go"
		}
	}
	var without []string
	for pkg, ok := range has {
		if !ok {
			without = append(without, pkg)
		}
	}
	sort.Strings(without)
	for _, pkg := range without {
		t.Errorf("package %s has no doc.go", pkg)
	}
}

// TestNoInitNoPackageState: registries filled by init() and shared generators are what makes a simulation unrepeatable.
func TestNoInit(t *testing.T) {
	root, _ := filepath.Abs("../..")
	for _, f := range goFiles(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		src, err := os.ReadFile(filepath.Join(root, f.path))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(src), "\nfunc init() {") {
			t.Errorf("%s has an init function: give what it sets at construction", f.path)
		}
	}
}
