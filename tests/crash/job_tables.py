"""The tables that the reference jobs find, and how many items they read."""

ITEMS = 40

SHOP = """
PRAGMA journal_mode = WAL;
CREATE TABLE audit (id INTEGER);
CREATE TABLE sales (id INTEGER, shop TEXT, amount INTEGER CHECK (amount <> 13));
CREATE TRIGGER audited BEFORE INSERT ON sales BEGIN
    INSERT INTO audit VALUES (NEW.id);
    SELECT RAISE(FAIL, 'too large') WHERE NEW.amount > 900;
END;
CREATE TABLE parts (id INTEGER, part INTEGER CHECK (part <> 3 OR id <> 8));
CREATE TABLE balance (shop TEXT PRIMARY KEY, total INTEGER);
INSERT INTO balance VALUES ('s0', 0), ('s1', 0), ('s2', 0);
"""

FAMILY = """
CREATE TABLE parents (code TEXT UNIQUE, id INTEGER UNIQUE);
CREATE TABLE children (parent INTEGER REFERENCES parents (id) ON UPDATE CASCADE);
CREATE TABLE renamed (parent INTEGER);
CREATE TRIGGER audited_children AFTER UPDATE ON children BEGIN
    INSERT INTO renamed VALUES (NEW.parent);
    SELECT RAISE(FAIL, 'no such number') WHERE NEW.parent % 7 = 3;
END;
INSERT INTO parents VALUES ('c0', -1), ('c1', -2), ('c2', -3);
INSERT INTO children VALUES (-1), (-2), (-3);
"""

ORDERS = """
CREATE TABLE shops (id INTEGER PRIMARY KEY);
INSERT INTO shops VALUES (0), (1), (2);
CREATE TABLE orders (id INTEGER, shop INTEGER REFERENCES shops DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE order_lines (id INTEGER, line INTEGER);
"""

FIRSTS = """
CREATE TABLE firsts (id INTEGER CHECK (id NOT IN (2, 9)), key INTEGER);
CREATE TABLE laps (id INTEGER, key INTEGER);
"""

WHOLE = """
PRAGMA journal_mode = WAL;
CREATE TABLE sales (id INTEGER, shop TEXT, amount INTEGER);
CREATE TABLE moves (shop TEXT, amount INTEGER);
"""

NUMBERS = f"""
CREATE TABLE numbers (id INTEGER PRIMARY KEY, name TEXT);
WITH RECURSIVE n (id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM n WHERE id < {ITEMS - 1})
INSERT INTO numbers SELECT id, 'name ' || id FROM n;
"""

ROUTES = """
CREATE TABLE orders (id INTEGER PRIMARY KEY CHECK (id NOT IN (4, 22)));
CREATE TABLE lines (id INTEGER REFERENCES orders, line INTEGER CHECK (line + id <> 13));
CREATE TABLE totals (shop INTEGER PRIMARY KEY, total INTEGER);
INSERT INTO totals VALUES (0, 0), (1, 0), (2, 0);
"""

DATABASES = {
    "shop.db": SHOP,
    "family.db": FAMILY,
    "whole.db": WHOLE,
    "orders.db": ORDERS,
    "numbers.db": NUMBERS,
    "firsts.db": FIRSTS,
    "routes.db": ROUTES,
}
