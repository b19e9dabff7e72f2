// What an SDRAM does, for simulations alone: rows that are opened and closed, data two cycles after a read. It stops
// the simulation at a command that comes too early, at a refresh that is missing, and at a word that was never written.
// Times are those of a -6 or -7 chip (IS42S16160G, 143 MHz), in ns.
`timescale 1ns / 1ps

module snnc_sdram_model #(
    parameter DEPTH = 1024,
    parameter POWER = 8000,
    parameter REFRESH = 195
) (
    input  wire        clk,
    input  wire [3:0]  command,
    input  wire [1:0]  bank,
    input  wire [12:0] address,
    input  wire        drive,
    input  wire [15:0] to_chip,
    output reg  [15:0] from_chip
);
    reg [15:0] mem [0:DEPTH-1];
    reg [3:0] open = 0;
    reg [12:0] row [0:3];
    time opened [0:3], free [0:3]; // when a row was opened, and when the next may be
    time ready = 0;
    integer cycles = 0, refreshes = 0, top = 0, k;
    reg usable = 0;
    reg [15:0] next;
    wire [24:0] place = {1'b0, row[bank], bank, address[8:0]};

    initial for (k = 0; k < 4; k = k + 1) begin
        row[k] = 0;
        opened[k] = 0;
        free[k] = 0;
    end

    task automatic fault(input [8*24-1:0] what);
        begin
            $display("FAULT: SDRAM, %0s, at %0t", what, $time);
            $finish;
        end
    endtask

    task automatic close(input [1:0] which, input time since);
        begin
            if (open[which] && since < opened[which] + 42) fault("tRAS");
            open[which] = 0;
            free[which] = since + 18;
        end
    endtask

    always @(posedge clk) begin
        cycles <= cycles + 1;
        from_chip <= next;
        next <= 16'hxxxx;
        if (command != 4'b0111 && $time < ready) fault("command too early");
        if (command != 4'b0111 && cycles < POWER) fault("no power yet");
        case (command)
            4'b0000: begin
                if (open != 0 || address != 13'h220) fault("mode");
                usable <= 1;
                ready = $time + 14;
            end
            4'b0001: begin
                for (k = 0; k < 4; k = k + 1) if (open[k] || $time < free[k]) fault("refresh of an open row");
                refreshes <= refreshes + 1;
                ready = $time + 60;
            end
            4'b0010: for (k = 0; k < 4; k = k + 1) if (address[10] || bank == k[1:0]) close(k[1:0], $time);
            4'b0011: begin
                if (!usable || open[bank] || $time < free[bank]) fault("activate");
                if ($time < opened[bank] + 60 && opened[bank] != 0) fault("tRC");
                open[bank] = 1;
                row[bank] <= address;
                opened[bank] = $time;
            end
            4'b0100, 4'b0101: begin
                if (!open[bank] || $time < opened[bank] + 18) fault("read or write");
                else if (32'(place) >= DEPTH) fault("address");
                else if (command[0]) begin
                    if (32'(place) >= top) fault("never written");
                    next <= mem[place[$clog2(DEPTH)-1:0]];
                    if (address[10]) fault("read with precharge");
                end else begin
                    if (!drive) fault("no data");
                    mem[place[$clog2(DEPTH)-1:0]] <= to_chip;
                    if (32'(place) >= top) top <= 32'(place) + 1;
                    if (address[10]) begin // tRAS and the recovery of a write pass before it closes
                        free[bank] = ($time + 14 > opened[bank] + 42 ? $time + 14 : opened[bank] + 42) + 18;
                        open[bank] = 0;
                    end
                end
            end
            4'b0111: ;
            default: fault("unknown command");
        endcase
        if (usable && cycles > POWER + (refreshes + 8) * REFRESH) fault("refresh is missing");
    end
endmodule
