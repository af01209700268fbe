import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;

import org.apache.cassandra.io.sstable.CQLSSTableWriter;

/**
 * Rows FOLDER KEYSPACE TABLE FIRST COUNT: writes rows of helenus bench as sstables of a real Cassandra into FOLDER, for nodetool import.
 * The same arguments give the same rows with another timestamp: that of now.
 */
public class Rows {
  static long mix(long i) {
    i += 0x9e3779b97f4a7c15L;
    i = (i ^ i >>> 30) * 0xbf58476d1ce4e5b9L;
    i = (i ^ i >>> 27) * 0x94d049bb133111ebL;
    return i ^ i >>> 31;
  }

  /** The value of a column of a row, as internal/bench makes it. */
  static ByteBuffer cell(long key, long column) {
    ByteBuffer b = ByteBuffer.allocate(34).order(ByteOrder.LITTLE_ENDIAN);
    long v = mix(key * 8 + column);
    for (int word = 0; word < 4; word++) {
      b.putLong(v);
      v = v * 0x9e3779b97f4a7c15L + 1;
    }
    b.putShort((short) v).flip();
    return b;
  }

  public static void main(String[] args) throws Exception {
    Path folder = Files.createDirectories(Path.of(args[0]));
    String table = args[1] + "." + args[2];
    long first = Long.parseLong(args[3]), count = Long.parseLong(args[4]);
    try (CQLSSTableWriter w = CQLSSTableWriter.builder().inDirectory(folder.toString())
        .forTable("CREATE TABLE " + table + " (key bigint PRIMARY KEY, c0 blob, c1 blob, c2 blob, c3 blob, c4 blob)")
        .using("INSERT INTO " + table + " (key, c0, c1, c2, c3, c4) VALUES (?, ?, ?, ?, ?, ?)").build()) {
      for (long key = first; key < first + count; key++) {
        w.addRow(key, cell(key, 0), cell(key, 1), cell(key, 2), cell(key, 3), cell(key, 4));
      }
    }
    System.exit(0);
  }
}
