package schema

import (
	"maps"
	"strconv"
	"strings"
)

const compressionPackage = "org.apache.cassandra.io.compress."

// Bounds of compression options.
const (
	chunkLengthMax      = 1 << 20 // KiB, inclusive: Cassandra keeps the length in bytes in 31 bits
	compressionLevelMin = -(1 << 17)
	compressionLevelMax = 22
)

// setCompression checks and normalises the compression option. It means nothing to this engine, which compresses
// blocks of its own, but it is kept and shown as Cassandra would.
func setCompression(o *TableOptions, p *Property) error {
	in, err := p.pairs()
	if err != nil {
		return err
	}
	if len(in) == 0 {
		o.Compression = Map{{"enabled", "false"}}
		return nil
	}
	m := maps.Clone(in)
	enabled, given := m["enabled"]
	delete(m, "enabled")
	if given && !strings.EqualFold(enabled, "true") {
		if len(m) > 0 {
			return config("If the 'enabled' option is set to false no other options must be specified")
		}
		o.Compression = Map{{"enabled", "false"}}
		return nil
	}
	class, given := m["class"]
	delete(m, "class")
	switch {
	case !given:
		return config("Missing sub-option 'class' for the 'compression' option.")
	case class == "":
		return config("The 'class' option must not be empty. To disable compression use 'enabled' : false")
	}
	out := map[string]string{}
	if err := chunkLength(m, out); err != nil {
		return err
	}
	if err := minCompressRatio(m, out); err != nil {
		return err
	}
	if !strings.Contains(class, ".") {
		class = compressionPackage + class
	}
	if err := compressorOptions(class, m); err != nil {
		return err
	}
	maps.Copy(out, m)
	out["class"] = class
	o.Compression = mapOf(out)
	return nil
}

func chunkLength(m, out map[string]string) error {
	kb := 16
	if s, ok := m["chunk_length_in_kb"]; ok {
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			return config("Invalid value for chunk_length_in_kb")
		}
		kb = int(n)
	}
	delete(m, "chunk_length_in_kb")
	switch {
	case kb > chunkLengthMax:
		return config("Value of chunk_length_in_kb is too large (%d)", kb)
	case kb <= 0:
		return config("Invalid negative or null chunk_length_in_kb")
	case kb&(kb-1) != 0:
		return config("chunk_length_in_kb must be a power of 2")
	}
	out["chunk_length_in_kb"] = strconv.Itoa(kb)
	return nil
}

func minCompressRatio(m, out map[string]string) error {
	s, ok := m["min_compress_ratio"]
	delete(m, "min_compress_ratio")
	if !ok {
		return nil
	}
	ratio, err := parseDouble(s)
	switch {
	case err != nil || ratio != ratio:
		return config("Invalid value for min_compress_ratio")
	case ratio < 0:
		return config("Invalid negative min_compress_ratio")
	case ratio > 0 && ratio < 1:
		return config("min_compress_ratio can either be 0 or greater than or equal to 1")
	case ratio > 0:
		out["min_compress_ratio"] = javaDouble(ratio)
	}
	return nil
}

// compressorOptions checks that class is one of Cassandra's compressors and understands all of the options.
func compressorOptions(class string, m map[string]string) error {
	short, ok := strings.CutPrefix(class, compressionPackage)
	var known []string
	switch {
	case ok && (short == "SnappyCompressor" || short == "DeflateCompressor" || short == "NoopCompressor"):
	case ok && short == "LZ4Compressor":
		known = []string{"lz4_compressor_type", "lz4_high_compressor_level"}
		if s, ok := m[known[0]]; ok && s != "high" && s != "fast" {
			return config("Invalid compressor type '%s' specified for LZ4 parameter 'lz4_compressor_type'. Valid options are [high, fast].", s)
		}
		if s, ok := m[known[1]]; ok {
			if n, err := strconv.Atoi(s); err != nil || n < 1 || n > 17 {
				return config("Invalid value [%s] for parameter 'lz4_high_compressor_level'. Value must be between 1 and 17.", s)
			}
		}
	case ok && short == "ZstdCompressor":
		known = []string{"compression_level"}
		if s, ok := m[known[0]]; ok {
			n, err := strconv.ParseInt(s, 10, 32)
			if err != nil {
				return config("ZstdCompressor.create() threw an error: java.lang.NumberFormatException For input string: \"%s\"", s)
			}
			if n < compressionLevelMin || n > compressionLevelMax {
				return config("ZstdCompressor.create() threw an error: java.lang.IllegalArgumentException compression_level=%d is invalid", n)
			}
		}
	default:
		return config("Could not create Compression for type %s", class)
	}
	rest := maps.Clone(m)
	for _, k := range known {
		delete(rest, k)
	}
	if len(rest) > 0 {
		return config("Unknown compression options %s", strings.Join(sortedKeys(rest), ", "))
	}
	return nil
}
