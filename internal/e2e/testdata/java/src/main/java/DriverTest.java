import com.datastax.oss.driver.api.core.CqlSession;
import com.datastax.oss.driver.api.core.config.DefaultDriverOption;
import com.datastax.oss.driver.api.core.config.DriverConfigLoader;
import com.datastax.oss.driver.api.core.cql.AsyncResultSet;
import com.datastax.oss.driver.api.core.cql.PreparedStatement;
import com.datastax.oss.driver.api.core.cql.Row;
import com.datastax.oss.driver.api.core.cql.SimpleStatement;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletionStage;

/** DriverTest HOST KEYSPACE RF ROWS: creates, prepares, writes, pages and reads; the last line says what happened. */
public class DriverTest {
  public static void main(String[] args) throws Exception {
    String keyspace = args[1];
    int rf = Integer.parseInt(args[2]), rows = Integer.parseInt(args[3]);
    DriverConfigLoader config = DriverConfigLoader.programmaticBuilder()
        .withDuration(DefaultDriverOption.REQUEST_TIMEOUT, Duration.ofSeconds(20))
        .withString(DefaultDriverOption.LOAD_BALANCING_LOCAL_DATACENTER, "datacenter1")
        .build();
    try (CqlSession session = CqlSession.builder().withConfigLoader(config)
        .addContactPoint(new InetSocketAddress(args[0], 9042)).build()) {
      session.execute("CREATE KEYSPACE " + keyspace + " WITH replication = {'class': 'SimpleStrategy', 'replication_factor': " + rf + "}");
      session.execute("CREATE TABLE " + keyspace + ".t (id int PRIMARY KEY, v text)");
      Thread.sleep(1500); // pools to every node are open by then
      PreparedStatement insert = session.prepare("INSERT INTO " + keyspace + ".t (id, v) VALUES (?, ?)");
      List<CompletionStage<AsyncResultSet>> pending = new ArrayList<>();
      for (int i = 0; i < rows; i++) {
        pending.add(session.executeAsync(insert.bind(i, "value " + i)));
        if (pending.size() == 64) {
          await(pending);
        }
      }
      await(pending);

      int pages = 0, paged = 0;
      AsyncResultSet page = session.executeAsync(
          SimpleStatement.newInstance("SELECT id, v FROM " + keyspace + ".t").setPageSize(100)).toCompletableFuture().get();
      while (true) {
        pages++;
        int inPage = 0;
        for (Row row : page.currentPage()) {
          check(row);
          inPage++;
        }
        if (inPage > 100) {
          throw new IllegalStateException("a page of " + inPage + " rows");
        }
        paged += inPage;
        if (!page.hasMorePages()) {
          break;
        }
        page = page.fetchNextPage().toCompletableFuture().get();
      }

      PreparedStatement select = session.prepare("SELECT id, v FROM " + keyspace + ".t WHERE id = ?");
      int read = 0;
      for (int i = 0; i < rows; i++) {
        Row row = session.execute(select.bind(i)).one();
        if (row.getInt("id") != i) {
          throw new IllegalStateException("asked for " + i + ", got " + row.getInt("id"));
        }
        check(row);
        read++;
      }
      System.out.printf("{\"nodes\": %d, \"written\": %d, \"paged\": %d, \"pages\": %d, \"read\": %d, \"version\": \"%s\"}%n",
          session.getMetadata().getNodes().values().stream().filter(n -> n.getOpenConnections() > 0).count(), rows, paged, pages, read,
          session.getContext().getProtocolVersion());
    }
  }

  private static void await(List<CompletionStage<AsyncResultSet>> pending) throws Exception {
    for (CompletionStage<AsyncResultSet> p : pending) {
      p.toCompletableFuture().get();
    }
    pending.clear();
  }

  private static void check(Row row) {
    if (!("value " + row.getInt("id")).equals(row.getString("v"))) {
      throw new IllegalStateException("row " + row.getInt("id") + " is " + row.getString("v"));
    }
  }
}
