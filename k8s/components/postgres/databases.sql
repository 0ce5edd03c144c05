-- Run once, on an empty volume. MLflow's database is the one that the image makes itself (POSTGRES_DB).
CREATE DATABASE prefect;
