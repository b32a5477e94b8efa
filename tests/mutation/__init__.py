"""Would the tests notice? Small changes to the code of money, one at a time, and whether a test fails: `make mutation`."""
